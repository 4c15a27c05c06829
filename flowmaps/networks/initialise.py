"""Start a network of two times from a trained network of one time, a velocity or a denoiser."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .dit import DiT
from .embeddings import Conditioning, Fourier, TimeConditioning, TimeFeatures, gap, raw, source_only
from .layers import SideBySide
from .mlp import MLP, ConcatMLP
from .token_transformer import TokenTransformer
from .unet import UNet
from .wrap import GaussianEndpoint, GaussianInput, InBasis

OURS = (MLP, ConcatMLP, DiT, TokenTransformer, UNet)


def two_times(network: nn.Module, times: TimeConditioning = gap) -> nn.Module:
    """Make a network of two times with the class, arguments and weights of a network of one, equal to it at s = t.

    The new network has V(x, s, s) = v(x, s), and its FlowMap starts as a step of the trained velocity:

    - `gap`, `pair`: the weights of the new input, s - t or t, start at zero, and V(x, s, t) = v(x, s) for every t;
    - `decoupled`: no new weights; the late layers see t instead of s (Lee et al. 2025, arXiv 2510.24474);
    - `expanded`: the diagonal sees c = 1 + s, so the first weights are changed to read s from c. This needs the
      features `Fourier` or `raw` and is equal up to rounding.

    For a FlowMap of a teacher's network: `FlowMap(two_times(teacher.network), teacher.output, teacher.path)`.

    Args:
        network: an MLP, ConcatMLP, DiT, TokenTransformer or UNet built with times=source_only: v(x, s); also one of
            them in `InBasis`, `GaussianInput` or `GaussianEndpoint`.
        times: the time conditioning of the new network.

    Returns:
        The new network; the given one is unchanged.

    Raises:
        ValueError: for another class, a network that was not built with source_only, times that do not show s where
            s = t (`gap_only`, `none`), and times or features that cannot be kept.
    """
    if isinstance(network, InBasis):
        return InBasis(two_times(network.network, times), network.basis).train(network.training)
    if isinstance(network, GaussianInput):
        inner = two_times(network.network, times)
        return GaussianInput(inner, network.mean, network.variances, network.path).train(network.training)
    if isinstance(network, GaussianEndpoint):
        inner = two_times(network.network, times)
        return GaussianEndpoint(inner, network.gaussian, network.path).train(network.training)
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
    """Return the arguments of a network of one time; ValueError for any other network."""
    known: dict[str, Any] = getattr(network, "_arguments", {})
    if type(network) not in OURS or known.get("times") is not source_only:
        got = type(network).__name__ + (f" with times={_name(known['times'])}" if "times" in known else "")
        names = ", ".join(kind.__name__ for kind in OURS)
        raise ValueError(f"expected one of {names} built with times=source_only, got {got}")
    return known


def depth_of(network: nn.Module) -> int:
    """Count the layers that see times."""
    conditionings = [part.depth for part in network.modules() if isinstance(part, Conditioning)]
    return conditionings[0] if conditionings else 1


def where_the_source_is(times: TimeConditioning, depth: int) -> tuple[int, int, float]:
    """Find s among the times that layers see on the diagonal.

    Args:
        times: the time conditioning.
        depth: number of layers.

    Returns:
        (i, n, c): at s = t every layer sees s + c as the i-th of its n times.

    Raises:
        ValueError: if no time is s plus a constant.
    """
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
    """Widen the layer that reads one time to `count` times.

    Args:
        reader: the layer; in a ConcatMLP it reads x too.
        position: index of the old time among the new ones.
        count: number of new times.
        shift: the new time at `position` is the old one plus `shift`.
        features: how a time is embedded.

    Returns:
        Weight and bias: the old ones at `position`, zero for the other times.
    """
    time, *others = reader.weight.split(reader.sizes, dim=1)
    bias = reader.bias
    if shift:
        turn, offset = at_shifted_times(features, shift, time)
        time, bias = time @ turn, bias + time @ offset
    parts = [time if i == position else torch.zeros_like(time) for i in range(count)]
    return torch.cat([*parts, *others], dim=1), bias


def at_shifted_times(features: TimeFeatures, shift: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Find R and r in features(s) = R features(s + shift) + r.

    For `Fourier`, R rotates sine and cosine of each frequency w back by the angle w shift; for `raw`, r is -shift.

    Args:
        features: `Fourier` or `raw`.
        shift: the shift in time.
        like: tensor with the dtype and device of the result.

    Returns:
        R (n, n) and r (n,).

    Raises:
        ValueError: for other features.
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
