"""A map of two times from a network of one: a trained velocity or denoiser as the start of a flow map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .dit import DiT
from .embeddings import Conditioning, Fourier, TimeConditioning, TimeFeatures, gap, raw, source_only
from .layers import SideBySide
from .mlp import MLP, ConcatMLP
from .unet import UNet
from .wrap import InBasis

OURS = (MLP, ConcatMLP, DiT, UNet)


def two_times(network: nn.Module, times: TimeConditioning = gap) -> nn.Module:
    """A new network of the same class and arguments that sees two times, equal to the given one at s = t.

    `network` is an MLP, ConcatMLP, DiT or UNet (or one of them in `InBasis`) built with times=source_only: v(x, s). The
    new one keeps all its weights, V(x, s, s) = v(x, s), and its FlowMap starts as a step of the trained velocity:

    - `gap`, `pair`: the weights of the new input, s - t or t, start at zero, and V(x, s, t) = v(x, s) for every t;
    - `decoupled`: no new weights; the late layers see t in the place of s (Lee et al. 2025, arXiv 2510.24474);
    - `expanded`: the diagonal sees c = 1 + s, so the first weights are changed to read s from it, which needs the
      features `Fourier` or `raw`; equal up to rounding.

    A FlowMap of a teacher's network: `FlowMap(two_times(teacher.network), teacher.output, teacher.path)`. Errors:
    ValueError for another class, for a network that was not built with source_only, for times that do not tell s where
    s = t (`gap_only`, `none`), and for times or features that cannot be kept.
    """
    if isinstance(network, InBasis):
        return InBasis(two_times(network.network, times), network.basis).train(network.training)
    known = _arguments(network)
    new = type(network)(**(known | {"times": times}))
    name = "input" if isinstance(network, ConcatMLP) else "conditioning.time.inner"
    reader = network.get_submodule(name)  # the layer that reads the times, and in a ConcatMLP also x
    assert isinstance(reader, SideBySide)
    position, count, shift = where_the_source_is(times, depth_of(network))
    weight, bias = widened(reader, position, count, shift, known["features"])
    new.to(weight).load_state_dict(network.state_dict() | {f"{name}.weight": weight, f"{name}.bias": bias})
    return new.train(network.training)


def _arguments(network: nn.Module) -> dict[str, Any]:
    """What a network of one time was built with; ValueError for another one."""
    known: dict[str, Any] = getattr(network, "_arguments", {})
    if type(network) not in OURS or known.get("times") is not source_only:
        got = type(network).__name__ + (f" with times={_name(known['times'])}" if "times" in known else "")
        names = ", ".join(kind.__name__ for kind in OURS)
        raise ValueError(f"expected one of {names} built with times=source_only, got {got}")
    return known


def depth_of(network: nn.Module) -> int:
    """How many layers see times."""
    conditionings = [part.depth for part in network.modules() if isinstance(part, Conditioning)]
    return conditionings[0] if conditionings else 1


def where_the_source_is(times: TimeConditioning, depth: int) -> tuple[int, int, float]:
    """(i, n, c): on the diagonal every layer sees s + c as the i-th of its n times; ValueError where it sees no such
    time."""
    diagonal = [(s, [seen for seen, _ in times(s, s, depth)]) for s in (0.0, 0.25, 1.0)]
    first = diagonal[0][1][0]
    for i, shift in enumerate(first):
        if all(seen[i] == s + shift for s, views in diagonal for seen in views):
            return i, len(first), shift
    raise ValueError(f"times={_name(times)} does not show s where s = t, so it cannot be the network of one time there")


@torch.no_grad()
def widened(
    reader: SideBySide, position: int, count: int, shift: float, features: TimeFeatures
) -> tuple[Tensor, Tensor]:
    """Weight and bias of a reader of one time, for `count` times: as they are at `position`, zero at the others."""
    time, *others = reader.weight.split(reader.sizes, dim=1)
    bias = reader.bias
    if shift:
        turn, offset = at_shifted_times(features, shift, time)
        time, bias = time @ turn, bias + time @ offset
    parts = [time if i == position else torch.zeros_like(time) for i in range(count)]
    return torch.cat([*parts, *others], dim=1), bias


def at_shifted_times(features: TimeFeatures, shift: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """(R, r) of features(s) = R features(s + shift) + r.

    For `Fourier`, R turns sine and cosine of each frequency w back by the angle w shift; for `raw`, r is -shift.
    """
    if features is raw:
        return torch.eye(1).to(like), torch.tensor([-shift], dtype=torch.float64).to(like)
    if not isinstance(features, Fourier):
        raise ValueError(f"times that show s + {shift:g} need the features Fourier or raw, got {_name(features)}")
    sin, cos = features(torch.tensor(shift, dtype=torch.float64)).reshape(-1, 2).unbind(1)
    turns = torch.stack([cos, -sin, sin, cos], dim=1).reshape(-1, 2, 2)
    return torch.block_diag(*turns).to(like), torch.zeros(2 * len(turns)).to(like)


def _name(function: Any) -> str:
    return getattr(function, "__name__", repr(function))
