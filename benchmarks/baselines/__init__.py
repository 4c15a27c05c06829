"""Training steps written directly from the papers: plain PyTorch, `torch.func.jvp`, `detach`.

Each module has `draw(x0)`, which draws all random numbers, and `loss(network, x0, *drawn)`. The network is called as
network(x, s, t) with times (B,): 0 is data, 1 is noise, s is the source time. The benchmarks time these steps beside
the library's own steps; the tests compare them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from benchmarks.baselines import ect, flow_matching, imf, lsd, meanflow, psd, shortcut


@dataclass(frozen=True)
class Baseline:
    """A plain step: draw(x0) -> random numbers, loss(network, x0, *drawn) -> scalar."""

    draw: Callable[[Tensor], tuple[Tensor, ...]]
    loss: Callable[..., Tensor]


MODULES: dict[str, Any] = {
    "flow_matching": flow_matching,
    "meanflow": meanflow,
    "imf": imf,
    "lsd": lsd,
    "psd": psd,
    "shortcut": shortcut,
    "ect": ect,
}


def baseline(name: str, network: nn.Module) -> Baseline:
    """The plain step of a method, with a copy of the network if its target has averaged weights."""
    module = MODULES[name]
    given = {"averaged": copy.deepcopy(network)} if name == "shortcut" else {}
    return Baseline(module.draw, partial(module.loss, **given))
