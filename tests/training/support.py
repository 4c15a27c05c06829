"""Small flows and methods with the parts that training has to look after."""

from functools import partial

import torch
from torch import nn

import flowmaps as fm
from flowmaps.method import Stages, Turns
from flowmaps.velocity import Auxiliary, Phased, averaged, fixed

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 16, "log_every": 1}
GAUSSIAN = fm.exact.Gaussian(torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.5]))


class Linear(nn.Module):
    """W (x, s, t) + b."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x, s, t):
        return self.linear(torch.cat([x, s[:, None], t[:, None]], 1))


def linear_flow(seed=0, **options):
    torch.manual_seed(seed)
    return fm.FlowMap(Linear(), **options)


def chase(flow, teacher, x, s, t, *, helper):
    """The helper learns the velocity, the flow follows the helper."""
    learned = helper.velocity(x, s)
    return {"chase": flow.velocity(x, s) - learned.detach(), "helper": learned - teacher.velocity(x, s)}


def chasing(helper=None, **options):
    """A method with a network beside the flow."""
    return fm.Method(fm.Term(chase, sources={"helper": helper or Auxiliary(**options)}), name="chasing")


def phased(phases=3):
    return fm.Method(fm.Term(fm.consistency.compositional, Phased(fixed(GAUSSIAN), phases)), name="phased")


def slowing_average():
    """The target's memory grows with training."""
    return fm.Method(fm.Term(fm.consistency.lagrangian, averaged(lambda progress: 0.9 * progress)), name="averaged")


def pursue(flow, teacher, x, s, t, *, helper):
    """The flow follows the helper, which stays."""
    return flow.velocity(x, s) - helper.velocity(x, s).detach()


def learn(flow, teacher, x, s, t, *, helper):
    """The helper learns the velocity, the flow stays."""
    return helper.velocity(x, s) - teacher.velocity(x, s)


def alternating(critics=3):
    """Turns of a helper and of the flow, which has a learned weight and an averaged target."""
    helper = {"helper": Auxiliary()}
    chased = fm.Term(pursue, sources=helper, weight=fm.weight.learned(4))
    target = fm.Term(fm.consistency.lagrangian, averaged(0.9))
    return Turns((critics, fm.Method(fm.Term(learn, sources=helper))), (1, fm.Method(chased, target)))


def staged():
    """Flow matching, then a network beside the flow, then phases and an average, each in a stage of its own."""
    last = fm.Method(*phased().terms, *slowing_average().terms, name="last")
    return Stages((0.3, fm.methods.flow_matching()), (0.3, chasing()), (0.4, last))


def from_noise(flow, teacher, x, s, t):
    """A data-free rule: the jump from noise learns the velocity there."""
    return flow.average_velocity(x, s, t) - teacher.velocity(x, s)


def data_free(teacher=GAUSSIAN):
    start = {"times": fm.times.from_noise(fm.times.uniform_triangle()), "start": fm.term.from_noise}
    return fm.Method(fm.Term(partial(from_noise), fixed(teacher), **start), name="data_free")
