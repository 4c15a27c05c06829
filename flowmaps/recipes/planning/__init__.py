"""Planning: the parameters, memory, operations and time of a recipe on a number of GPUs, before it is started.

    estimate = flowmaps.planning.plan(flowmaps.recipes.find("imagenet256-dit-xl2-meanflow"), gpus=8)

Everything is counted on the real loss with tensors that have no memory, so it takes seconds and no GPU. The speed of a
GPU cannot be counted and is an argument of `CostEstimate.hours`.
"""

from .counting import Cost, cost_of, counter, kept_for_backward
from .estimate import CostEstimate, plan

Estimate = CostEstimate
"""The name of `CostEstimate` in version 0.1."""

__all__ = ["Cost", "CostEstimate", "Estimate", "cost_of", "counter", "kept_for_backward", "plan"]
