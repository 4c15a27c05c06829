"""Steps as one would write them straight from the papers: plain PyTorch, `torch.func.jvp`, `detach`.

Each module has `draw(x0)`, all that is random, and `loss(network, x0, *drawn)`, for a network that is called as
network(x, s, t) with times (B,), 0 data and 1 noise, s the source. They are timed beside the library's own steps and
tested against them.
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
    """A plain step: draw(x0) -> what is random, loss(network, x0, *drawn) -> scalar."""

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
    """The plain step of a method; where its target has averaged weights, with a copy of the network for them."""
    module = MODULES[name]
    given = {"averaged": copy.deepcopy(network)} if name == "shortcut" else {}
    return Baseline(module.draw, partial(module.loss, **given))
