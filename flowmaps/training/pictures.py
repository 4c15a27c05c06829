"""Samples along the way."""

from __future__ import annotations

from pathlib import Path

import torch

from ..consistency import diffusion
from ..data import Data
from ..data.transforms import Transformed
from ..files import flush
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.stages import Stages
from ..method.term import function_of
from ..methods import LANDSCAPE
from ..sampling import sample
from ..steps import euler, jump


def draw(path: Path, flow: FlowMap, method: Method, data: Data, labels: bool) -> None:
    """A picture of samples from one fixed noise: a grid of 64 images or 2000 points; nothing for other data.

    One jump each, or as many as the method is made for; 16 Euler steps where it learns no jumps. Classes take turns.
    """
    from .. import visualise

    if data.kind == "vectors":
        return
    weight = flow.like
    count = 64 if data.kind == "images" else 2000
    noise = torch.randn(count, *data.shape, generator=torch.Generator().manual_seed(0)).to(weight)
    noise = noise * flow.path.sigma(torch.ones((), dtype=weight.dtype, device=weight.device))
    label = torch.arange(count, device=weight.device) % data.classes if labels and data.classes else None
    steps, step = (jumps_of(method), jump) if learns_jumps(flow, method) else (16, euler)
    known = {} if label is None else {"label": label}
    # of a batch of training, for changes may give more than rows have of their own
    given = next(data.batches(count)).given if data.given or isinstance(data.source, Transformed) else None
    condition = {**known, **{name: value.to(weight.device) for name, value in (given or {}).items()}}
    x = sample(flow, noise, steps, step=step, condition=condition or None)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp.png")
    if data.kind == "images":
        visualise.grid(data.to_pixels(x.float().cpu()), temporary)
    else:
        visualise.points(x.float().cpu(), temporary)
    flush(temporary)
    temporary.replace(path)


def learns_jumps(flow: FlowMap, method: Method) -> bool:
    """Whether some term, of some stage, is about more than the velocity; a partial map has no velocity at all."""
    partial = flow.only_source is not None or flow.only_target is not None
    return partial or any(function_of(term.rule) is not diffusion for term in method.terms)


def jumps_of(method: Method) -> int:
    """The jumps that a method of the landscape is made for, of the last stage where there are several; 1 for others."""
    last = method.method(len(method.stages) - 1) if isinstance(method, Stages) else method
    return next((row.few_step for row in LANDSCAPE if row.name == last.name), 1)
