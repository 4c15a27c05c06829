"""Small runs of one method of each family."""

from functools import partial

import torch

import flowmaps as fm
from flowmaps.derivative import finite_difference
from flowmaps.distributed import unshard
from flowmaps.distributed.shards import is_sharded
from flowmaps.methods import LANDSCAPE
from flowmaps.methods.adversarial import adversarial_term
from flowmaps.training import train
from flowmaps.velocity import Discriminator
from tests.training.support import GAUSSIAN, alternating, staged

STEPS = 4
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "log_every": 1}


class Critic(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x)


def network(seed=0):
    torch.manual_seed(seed)
    made = fm.networks.MLP(2, width=8, depth=2, embedding=8)
    for weight in made.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made.double()


def critic():
    torch.manual_seed(7)
    return Critic().double()


def judged():
    """A method with a discriminator whose part is held in proportion by gradients."""
    return fm.Method(*fm.methods.meanflow().terms, adversarial_term(Discriminator(critic()), share=0.25))


def half_frozen():
    """A flow map of which an embedding and a block stay as they are."""
    made = network()
    for part in (made.conditioning, made.blocks[0]):
        part.requires_grad_(False)
    return fm.FlowMap(made)


def teacher():
    return fm.FlowMap(network(seed=3))


class Teacher:
    """A teacher that is no module: what is trained beside the flow starts as the flow."""

    def __init__(self):
        self.velocity = teacher().velocity


METHODS = {
    "jvp, detached": fm.methods.meanflow,
    "jvp, on the graph": fm.methods.lsd,
    "finite difference": lambda: fm.methods.meanflow(derivative=finite_difference()),
    "drawn fractions": fm.methods.psd,
    "averaged target": partial(fm.methods.shortcut, ema=0.9),
    "auxiliary network": lambda: fm.methods.freeflow(teacher()),
    "phases": lambda: fm.methods.progressive_distillation(teacher()),
    "stages": staged,
    "turns": lambda: alternating().double(),
    "learned weight": lambda: fm.methods.meanflow(weight=fm.weight.learned(8)).double(),
    "adversarial": judged,
}
FROZEN = {
    "frozen, averaged target": METHODS["averaged target"],
    "frozen, auxiliary network": lambda: fm.methods.freeflow(Teacher()),
}
"""Methods that keep a copy of the flow, which is half frozen."""


def of_landscape(name, **options):
    """A run of a method of the landscape, on the path that it needs."""
    row = next(row for row in LANDSCAPE if row.name == name)
    path = fm.path.trigonometric if name in ("sct", "scd") else fm.path.linear
    given = {"teacher": fm.FlowMap(network(seed=3), path=path)} if row.needs_teacher else {}
    flow = fm.FlowMap(network(), path=path, only_source=row.only_source, only_target=row.only_target)
    return trained(row.build(**given).double(), 32, flow, steps=2, **options)


def case(name, batch_size=24, **options):
    """A run of one of METHODS, or of FROZEN."""
    if name in METHODS:
        return trained(METHODS[name](), batch_size, **options)
    flow, method = half_frozen(), FROZEN[name]()
    return trained(
        method, batch_size, flow, lambda state: shared(state, method, options.get("shard", False)), **options
    )


def shared(state, method, spread):
    """Frozen weights are there once, and spread like the others."""
    parts = (state.flow, state.ema, method)
    mine, *others = (module for part in parts for module in part.modules() if isinstance(module, fm.networks.MLP))
    frozen = {id(weight) for weight in mine.parameters() if not weight.requires_grad}
    assert len(others) == 2
    assert all({id(weight) for weight in other.parameters()} >= frozen for other in others)
    assert {is_sharded(weight) for weight in mine.parameters()} == {spread}


def trained(method, batch_size=24, flow=None, look=lambda state: None, **options):
    """The losses of a run, the terms of its last one, and its weights."""
    flow = flow or fm.FlowMap(network())
    plan = {"steps": STEPS, "batch_size": batch_size, "lr": 3e-3, **options}
    losses = []
    for state in train(flow, method, GAUSSIAN, **plan, **QUIET):
        losses.append(state.loss.value.item())
        look(state)
        ema = unshard(state.ema)
    weights = [*flow.parameters(), *method.parameters(), *ema.parameters()]
    return {
        "losses": torch.tensor(losses, dtype=torch.float64),
        "terms": torch.stack([term.value.double() for term in state.loss.terms.values()]),
        "weights": torch.cat([weight.detach().flatten() for weight in weights]),
    }


def differences(one, other, tolerance=1e-9):
    """Which parts of two runs are not the same numbers."""
    if isinstance(other, str):
        return [other]
    return [
        f"{name} by {float((one[name] - other[name]).abs().max() if one[name].shape == other[name].shape else 9):.3g}"
        for name in one
        if one[name].shape != other[name].shape
        or not torch.allclose(one[name], other[name], rtol=tolerance, atol=1e-12)
    ]
