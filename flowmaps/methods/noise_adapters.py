"""Variational flow maps: a noise adapter turns a measurement into the noise whose jump explains it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import checked, given, positive, shown, within
from ..derivative import Derivative, detached
from ..flow_map import FlowMap
from ..method.method import Method
from ..method.term import Term, noise_alone
from ..times.samplers import Times, logit_normal_pairs
from ..units import units_of
from ..velocity import Pair, frozen
from ..weight import plain, summed
from .parts import one_jump

__all__ = ["NoiseAdapter", "variational"]


class NoiseAdapter(nn.Module):
    """The law of noise that explains a measurement, q(z | y) = N(mean(y), diag std(y)^2).

    It is trained by `variational`. Then `fm.sample(flow, adapter.sample(y))` draws data that fit y in one jump.

    Args:
        network: Called as network(y) -> (B, 2 C, ...) for rows (C, ...): the mean, then the logarithm of the standard
            deviation, side by side along the first axis of a row.

    Raises:
        TypeError: The network is no module.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise TypeError(f"a noise adapter is a network y -> (mean, log std), got {shown(network)}")
        self.network = network

    def law(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the standard deviation of q(z | y), each (B, *shape).

        Raises:
            ValueError: The network returns another number of channels.
        """
        both = self.network(y)
        if both.ndim < 2 or both.shape[1] % 2:
            raise ValueError(f"a noise adapter returns (B, 2 C, ...), means and logarithms, got {tuple(both.shape)}")
        mean, log_std = both.chunk(2, dim=1)
        return mean, log_std

    def sample(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw noise z ~ q(z | y), one row for each row of y, in units of standard noise."""
        mean, log_std = self.law(y)
        z = torch.randn(mean.shape, generator=generator, dtype=mean.dtype, device=mean.device)
        return mean + log_std.exp() * z

    def forward(self, flow: FlowMap, pair: Pair) -> NoiseAdapter:
        """The adapter itself, as a source of a term."""
        return self


@checked
def variational(
    adapter: NoiseAdapter,
    measure: Callable[[Tensor], Tensor],
    std: float,
    *,
    tau: float | None = None,
    adapted: float = 0.5,
    diagonal: float = 0.5,
    times: Times = logit_normal_pairs(),
    derivative: Derivative = detached,
) -> Method:
    """Variational flow map: learn q(z | y), the noise from which one jump gives data that fit a measurement y.

        E |y - A(F*(z, 1, 0))|^2 / (2 std^2) + KL(q(z | y) | N(0, I)),     z ~ q(z | y)
          [ +  E |V - u - (t - s) sg[dV/ds + grad_x V . u]|^2 / (2 tau^2),  u = z - x_0 ]

    F* has constant weights. Without `tau` the flow map is not trained: this is variational inference in noise space.
    The loss is then -log p(y) plus a gap, the KL from q to the true law of the noise given y, and its optimum over
    Gaussians q is above zero unless F is linear. With `tau` the last line trains the flow map too, on pairs whose noise
    is z in a share of the rows, and its gradient reaches the adapter through z and u. Adapter and flow share one
    optimizer.

    Train it on `fm.data.with_measurement(data, A, std)`. Variational flow maps, arXiv 2603.07276.

    Args:
        adapter: The noise adapter.
        measure: Measurement A, data (B, *shape) -> (B, ...).
        std: Standard deviation of the noise of the measurement.
        tau: Scale of the flow map's own loss, in the units of the data; above `std` in the paper. None: the flow map
            stays as it is.
        adapted: Share of its rows whose noise is the adapter's: 0.5 on toys and 0.8 on ImageNet in the paper.
        diagonal: Share of its rows with t = s.
        times: Sampler of its (s, t); by default two logit-normal draws, sorted.
        derivative: Mode of the slope; by default forward mode without gradient.

    Raises:
        TypeError: The adapter or the measurement is of another kind.
        ValueError: A number is out of range. In calls: the batch has no condition `y`.
    """
    if not isinstance(adapter, NoiseAdapter) or not callable(measure):
        raise TypeError(
            f"variational takes a NoiseAdapter and a measurement, a function of data, got {shown(adapter)} and "
            f"{shown(measure)}"
        )
    positive(std=std, **given(tau=tau))
    within(0, 1, adapted=adapted, diagonal=diagonal)
    observed = Term(
        partial(noise_fit, measure=measure, std=std),
        frozen,
        share=1.0 if tau is None else 0.5,
        times=one_jump,
        weight=plain,
        sources={"adapter": adapter},
        start=noise_alone,
        couple=_measured,
        name="noise_fit",
    )
    if tau is None:
        return _described(Method(observed, name="variational"), trains_flow=False)

    def scaled(residual: Tensor, s: Tensor, t: Tensor) -> Tensor:
        return summed(residual, s, t) / (2 * tau**2)

    noises: tuple[tuple[float, Callable[[Pair], Pair]], ...] = (
        (adapted, partial(_adapted, adapter)),
        (1 - adapted, _unmeasured),
    )
    kinds = ((diagonal, partial(_on_the_diagonal, times)), (1 - diagonal, times))
    terms = [
        Term(partial(matched, derivative=derivative), share=one * two / 2, times=drawn, weight=scaled, couple=couple)
        for one, couple in noises
        for two, drawn in kinds
        if one * two > 0
    ]
    return _described(Method(observed, *terms, name="variational"), trains_flow=True)


def matched(flow: Any, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, derivative: Derivative = detached) -> Tensor:
    """MeanFlow's residual whose noise has a gradient:  V - u - (t - s) sg[dV/ds + grad_x V . u].

    Args:
        flow: The flow map.
        teacher: The conditional velocity u of the pair, which keeps its gradient.
        x: State x_s, (B, ...).
        s: Source time, (B, 1, ..., 1).
        t: Target time, likewise.
        derivative: Mode of the slope.

    Returns:
        The residual, of x's shape.
    """
    u = teacher.velocity(x, s)
    V, dV = derivative(flow.average_velocity, (x, s, t), (u.detach(), 1, 0))
    return V - u - (t - s) * dV.detach()


def noise_fit(
    flow: Any,
    teacher: Any,
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    y: Tensor,
    adapter: NoiseAdapter,
    measure: Callable[[Tensor], Tensor],
    std: float,
) -> dict[str, Tensor]:
    """The two parts of the bound: -log N(y; A(F(z, s, t)), std^2 I) for z ~ q(z | y), and KL(q | N(0, I)).

    Args:
        flow: Not used.
        teacher: The flow map with constant weights.
        x: Noise, (B, ...), from which z is made.
        s: Source times, (B, 1, ...).
        t: Target times, (B, 1, ...).
        y: Measurements, (B, ...).
        adapter: The noise adapter.
        measure: Measurement A.
        std: Standard deviation of the noise of the measurement.

    Returns:
        `observation` and `divergence`, (B, 1) each. Their sum is the negative bound of log p(y), in nats.

    Raises:
        ValueError: y has another shape than A(x_0), or the adapter's mean than x.
    """
    mean, log_std = adapter.law(y)
    if mean.shape != x.shape:
        raise ValueError(f"the adapter's mean has the shape of the noise, {tuple(x.shape)}, got {tuple(mean.shape)}")
    z = teacher.path.sigma(s) * mean + log_std.exp() * x
    x0, units = teacher(z.to(x.dtype), s, t), units_of(teacher)
    found = measure(x0 if units is None else units.restored(x0))
    if found.shape != y.shape:
        raise ValueError(f"the measurement of data has shape {tuple(found.shape)}, and y has {tuple(y.shape)}")
    rest = ((y - found) / std).flatten(1)
    constant = rest.shape[1] * (math.log(2 * math.pi) / 2 + math.log(std))
    divergence = (mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).flatten(1).sum(1, keepdim=True) / 2
    return {"observation": rest.square().sum(1, keepdim=True) / 2 + constant, "divergence": divergence}


def _described(method: Method, trains_flow: bool) -> Method:
    """Say that the network does not get the measurement, and whether it is trained."""
    method.hidden, method.trains_flow = ("y",), trains_flow
    return method


def _measured(pair: Pair) -> Pair:
    """Give the measurement to the rule instead of the network."""
    y = _measurement(pair)
    return replace(_unmeasured(pair), numbers={**pair.numbers, "y": y})


def _unmeasured(pair: Pair) -> Pair:
    """Leave the measurement out of the conditions of the network."""
    return replace(pair, condition={name: value for name, value in pair.condition.items() if name != "y"})


def _adapted(adapter: NoiseAdapter, pair: Pair) -> Pair:
    """Replace the noise of a pair by the adapter's."""
    mean, log_std = adapter.law(_measurement(pair))
    return replace(_unmeasured(pair), eps=(mean + log_std.exp() * pair.eps).to(pair.eps.dtype))


def _measurement(pair: Pair) -> Tensor:
    if "y" not in pair.condition:
        raise ValueError("a noise adapter needs a measurement of each row: fm.data.with_measurement(data, A, std)")
    return pair.condition["y"]


def _on_the_diagonal(times: Times, n: int, progress: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """The source times of a sampler, with t = s."""
    s, _ = times(n, progress, like)
    return s, s
