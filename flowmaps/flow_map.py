"""The flow map: one network, seen as F (a jump), V (average velocity), v (velocity) and f (denoiser).

    F(x, s, t) = x + (t - s) V(x, s, t),      v(x, t) = V(x, t, t),      f(x, t) = E[x_0 | x_t = x], from v by the path.

s is the source time and t the target time, in [0, 1] with t = 0 data and t = 1 noise, in either order.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from . import path as paths
from .outputs import Output, average_velocity
from .path import Path, Time, expand, linear
from .serialise import describable

INSTEAD = {
    ("source", 1.0): "; it samples in a single step, steps=1",
    ("target", 0.0): "; to sample it in several steps, pass step=steps.restart",
}
"""What the partial maps in use can do instead."""


Interval = tuple[float, float] | Callable[[Tensor], Tensor]
"""When guidance acts: from one time to another, or a function from s to the share that acts there."""


@dataclass(frozen=True)
class GuidanceSpec:
    """The guidance that the weights of a flow map have learned, as data: sampling must not add it again.

    Attributes:
        scale: The scale that comes out. (lowest, highest) if the network is guidance-conditioned, that is, takes the
            scale as the condition `guidance`; the highest is infinite if it is not known. None if no single scale
            describes it (a mixture of several conditions).
        interval: The times at which it acts.
        null: The conditions that it compares with, by name, as far as they are numbers: {"label": 10}.
        kind: The guidance behind it, such as "ClassifierFree" or "learned".
    """

    scale: float | tuple[float, float] | None = None
    interval: Interval = (0.0, 1.0)
    null: Mapping[str, Any] = field(default_factory=dict)
    kind: str = "learned"

    def __post_init__(self) -> None:
        for name in ("scale", "interval"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        numbers = {key: value.item() if _is_number(value) else value for key, value in self.null.items()}
        plain = {key: value for key, value in numbers.items() if isinstance(value, int | float)}
        object.__setattr__(self, "null", plain)

    @property
    def is_conditioned(self) -> bool:
        """Whether the network takes the scale as a condition."""
        return isinstance(self.scale, tuple)

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest scale."""
        if isinstance(self.scale, tuple):
            return self.scale
        return (0.0, math.inf) if self.scale is None else (self.scale, self.scale)

    def __str__(self) -> str:
        low, high = self.range
        scale = f"{low:g}" if low == high else "as told" if high == math.inf else f"{low:g} to {high:g}"
        times = self.interval
        when = f"between times {times[0]:g} and {times[1]:g}" if isinstance(times, tuple) else str(times)
        return f"{self.kind}, scale {scale}, {when}"


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


@describable
class FlowMap(nn.Module):
    """A flow map around any network called as `network(x, s, t, **condition)` that returns a tensor of x's shape.

    The network gets s and t as (B,) in x's dtype but never below float32, unscaled. `output` says what it predicts:
    `average_velocity` (default), `Endpoint()`, `Position()`, `Rotation()`, `GaussianSkip.fit(x0)`, or any function
    (value, x, s, t, path) -> V. A partial map knows one end only: `only_target=0.0` (a consistency model) or
    `only_source=1.0` (a one-step generator from noise); other calls are refused with ValueError. ValueError also for
    times outside [0, 1] or NaN and for a network output of another shape. guidance: the
    guidance that the weights have learned, None if none; `train` sets it, and guiding such a map again warns.
    """

    def __init__(
        self,
        network: nn.Module,
        output: Output = average_velocity,
        path: Path = linear,
        *,
        only_source: float | None = None,
        only_target: float | None = None,
        guidance: GuidanceSpec | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.output = output
        self.path = path
        self.only_source, self.only_target = only_source, only_target
        self.guidance = guidance
        self.condition: dict[str, Any] = {}

    def forward(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """F(x, s, t) = x + (t - s) V(x, s, t): x at time t. Shapes: x (B, ...); s, t a number, 0-d, (B,) or (B, 1, ...,
        1).
        """
        s, t = expand(s, x), expand(t, x)
        return x + ((t - s) * self.average_velocity(x, s, t)).to(x.dtype)

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """V(x, s, t): the mean of v along the path from s to t; the velocity where s = t."""
        s, t = expand(s, x), expand(t, x)
        self._check(s, t)
        value = self.network(x, s.reshape(x.shape[0]), t.reshape(x.shape[0]), **self.condition)
        if getattr(value, "shape", None) != x.shape:
            got = tuple(value.shape) if hasattr(value, "shape") else f"a {type(value).__name__}"
            raise ValueError(
                f"the network must return a tensor of the shape of x, {tuple(x.shape)}, but it returned {got}"
            )
        return self.output(value.to(x.dtype), x, s, t, self.path)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) = V(x, t, t)."""
        return self.average_velocity(x, t, t)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t) = E[x_0 | x_t = x]; on the linear path x - t v(x, t)."""
        return self.path.convert(self.velocity(x, t), x, t, paths.velocity, paths.data)

    def given(self, **condition: Any) -> FlowMap:
        """The same weights with a condition bound (`flow.given(label=y)`): what comes back is a function of x, s and t
        alone.
        """
        bound = self.around(self.network)
        bound.condition = {**self.condition, **condition}
        return bound

    def around(self, network: Callable[..., Tensor]) -> FlowMap:
        """The same map (output, path, condition, limits) around another network: other weights, averaged or frozen
        ones.
        """
        limits = {"only_source": self.only_source, "only_target": self.only_target}
        # made anew, not copied, which torch's compiler could not follow
        other = FlowMap(network, self.output, self.path, guidance=self.guidance, **limits)  # type: ignore[arg-type]
        other.condition, other.training = self.condition, self.training
        return other

    @property
    def like(self) -> Tensor:
        """An empty tensor of the device and dtype for x: the widest of the weights, of which some may be frozen in a
        narrow one.
        """
        weights = list(self.parameters())
        dtypes = [weight.dtype for weight in weights if weight.is_floating_point()]
        dtype = functools.reduce(torch.promote_types, dtypes) if dtypes else torch.get_default_dtype()
        return torch.empty(0, dtype=dtype, device=weights[0].device if weights else None)

    @property
    def guided(self) -> str | None:
        """The guidance that the weights have learned, in words; None if none."""
        return None if self.guidance is None else str(self.guidance)

    @property
    def is_partial(self) -> bool:
        """Whether the map knows one source time or one target time only."""
        return self.only_source is not None or self.only_target is not None

    def knows(self, s: float, t: float) -> bool:
        """Whether the map can jump from time s to time t."""
        return self.only_source in (None, s) and self.only_target in (None, t)

    def unlimited(self) -> FlowMap:
        """The same weights without the limits of a partial map, for losses that train more than it is sampled with."""
        other = self.around(self.network)
        other.only_source = other.only_target = None
        return other

    def _check(self, s: Tensor, t: Tensor) -> None:
        """Refuse times that are no times or that a partial map does not know. Reads values, so not while a graph is
        traced and not on a GPU.
        """
        if (
            torch.compiler.is_compiling()
            or s.device.type != "cpu"
            or not (type(s) is type(t) is Tensor)
            or torch._C._functorch.maybe_current_level() is not None
        ):
            return
        for name, time, only in (("source", s, self.only_source), ("target", t, self.only_target)):
            if not bool(((time >= 0) & (time <= 1)).all()):
                raise ValueError(f"{name} times must lie in [0, 1] (0 is data, 1 is noise), got {_worst(time)}")
            if only is not None and not bool((time == only).all()):
                raise ValueError(
                    f"this is a partial flow map: it only knows the {name} time {only:g}, but it was asked for "
                    f"{_other(time, only)}{INSTEAD.get((name, only), '')}"
                )


def _worst(time: Tensor) -> str:
    flat = time.detach().flatten()
    bad = flat[~((flat >= 0) & (flat <= 1))]
    return f"{bad[0].item():g}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")


def _other(time: Tensor, only: float) -> str:
    flat = time.detach().flatten()
    return f"{flat[flat != only][0].item():g}"
