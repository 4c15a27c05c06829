"""What a run takes before it is started: parameters, memory, operations, time, for a `Recipe` on so many GPUs.

    estimate = flowmaps.planning.plan(flowmaps.recipes.find("imagenet256-dit-xl2-meanflow"), gpus=8)

Everything is counted on the real loss with tensors that have no memory, so it takes seconds and no GPU. The one thing
that cannot be counted is how fast a GPU is, which is given (`Estimate.hours`).
"""

from .counting import Cost, cost_of, counter, kept_for_backward
from .estimate import Estimate, plan

__all__ = ["Cost", "Estimate", "cost_of", "counter", "kept_for_backward", "plan"]
