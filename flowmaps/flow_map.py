"""The flow map: one network, seen as F (a jump), V (average velocity), v (velocity) and f (denoiser).

    F(x, s, t) = x + (t - s) V(x, s, t),      v(x, t) = V(x, t, t),      f(x, t) = E[x_0 | x_t = x], from v by the path.

s is the source time and t the target time, in [0, 1] with t = 0 data and t = 1 noise, in either order.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from . import path as paths
from .arguments import expect_two_times, given, refuse_written, version, within
from .outputs import Endpoint, Output, average_velocity
from .path import Path, Time, expand_frames, linear
from .path.time_shapes import common_frames, expect_frames
from .serialise import describable
from .trained import NULL, TrainedSpec
from .units import Units

ADVICE = {
    "source": "it samples in a single step, steps=1, step=steps.jump",
    "target": "to sample it in several steps, pass step=steps.restart",
}
"""How to sample a partial map, by the end of time that it knows."""

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
        scales = self.scale if isinstance(self.scale, tuple) else () if self.scale is None else (self.scale,)
        if any(isinstance(scale, bool | str) or not scale == scale for scale in scales):
            raise ValueError(f"a guidance scale is a number, or (lowest, highest), got {self.scale}")
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
        scale = f"{low:g}" if low == high else "as a condition" if high == math.inf else f"{low:g} to {high:g}"
        times = self.interval
        when = f"between times {times[0]:g} and {times[1]:g}" if isinstance(times, tuple) else str(times)
        return f"{self.kind}, scale {scale}, {when}"


class Linked(nn.Module):
    """A network and the link of its output, where both have weights; see `FlowMap.weights`.

    Args:
        network: The network.
        link: The link.
    """

    def __init__(self, network: Any, link: Any) -> None:
        super().__init__()
        self.network: Any = network
        self.link: Any = link


def _is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.numel() == 1


@describable
class FlowMap(nn.Module):
    """A flow map around any network that is called as `network(x, s, t, **condition)`.

    Args:
        network: Returns a tensor of x's shape, or of another one that the output takes. It gets s and t as (B,),
            unscaled, in x's dtype but never below float32. With the attribute `frame_axis`, an axis of x with F
            frames, it gets times per frame as (B, F) too.
        output: The quantity that the network predicts: `average_velocity`, `Endpoint()`, `Position()`, `Rotation()`,
            `GaussianSkip.fit(x0)`, or any function (value, x, s, t, path) -> V. A function of values of another shape
            than x's has the attribute `reshapes = True`.
        path: The path between data and noise; the linear one by default.
        only_source: The one source time of a partial map, such as 1.0 for a one-step generator. None: any.
        only_target: The one target time of a partial map, such as 0.0 for a consistency model. None: any.
        guidance: The guidance that the weights have learned; None if they have learned none. `train` sets it, and
            guiding such a map again warns.

    Attributes:
        link: Link of an `Endpoint`, from the network's value to the denoised field; None for other outputs.
        trained: The jumps and conditions that the weights were trained for, a `fm.TrainedSpec`; calls outside of them
            warn once. `train` sets it. None: not known, and nothing is checked.
        units: The units of standardised data, a `fm.Units`. The map computes on standardised states, and samplers
            return states in these units. `train` sets it from the data. None: states are in the units of the data.

    Raises:
        TypeError: The network, the output or the path is of another kind, or the network takes one time only.
        ValueError: `only_source` or `only_target` is no time. In calls: a time is NaN, outside [0, 1] or unknown to a
            partial map, or the network returns another shape or writes into x.
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
        if not callable(network) or isinstance(network, type | FlowMap):
            raise TypeError(f"a FlowMap needs a network, called as network(x, s, t), got {_kind(network)}")
        if isinstance(network, nn.Module) and not torch.compiler.is_compiling():
            expect_two_times(network)
        if not callable(output) or isinstance(output, type):
            raise TypeError(f"an output is a function (value, x, s, t, path) -> V, got {_kind(output)}")
        if not isinstance(path, Path):
            raise TypeError(f"a path is one of flowmaps.path, such as path.linear, got {_kind(path)}")
        if path.curved and output is not average_velocity:
            raise ValueError(
                f"on {path} the network predicts the average velocity, which is projected to the tangent space, but "
                f"{output!r} is a formula of flat space"
            )
        within(0, 1, **given(only_source=only_source, only_target=only_target))
        self.network = network
        self.output = output
        self.link = getattr(output, "link", None)  # a module in an output that is none itself is registered here
        self.path = path
        self.only_source, self.only_target = only_source, only_target
        self.guidance = guidance
        self.trained: TrainedSpec | None = None
        self.units: Units | None = None  # no argument: descriptions of earlier versions must stay equal
        self.condition: dict[str, Any] = {}
        self._said: set[str] = set()  # warnings are given once, also by bound copies

    def forward(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Jump: F(x, s, t) = x + (t - s) V(x, s, t), the state at time t; exp_x((t - s) V) on a manifold.

        Args:
            x: State at time s, (B, ...).
            s: Source time: a number, or a tensor of shape (), (B,) or (B, 1, ..., 1). Times per frame have one more
                axis of x: (B, 1, F, 1, 1) beside videos (B, C, F, H, W), (B, T, 1) beside sequences (B, T, C). All
                frames then move at rates of their own and arrive together.
            t: Target time, likewise.

        Returns:
            The state at time t, of the shape of x.
        """
        if self.trained is not None:
            self._check_trained(s, t)
        s, t = expand_frames(s, x), expand_frames(t, x)
        return self.path.move(x, ((t - s) * self.average_velocity(x, s, t)).to(x.dtype))

    def average_velocity(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """V(x, s, t): the mean of v along the path from s to t; the velocity if s = t."""
        if self.trained is not None and getattr(s, "ndim", 0) != x.ndim:  # times of `forward` are checked there
            self._check_trained(s, t)
        s, t = expand_frames(s, x), expand_frames(t, x)
        return self.path.tangent(x, self.output(self._value(x, s, t), x, s, t, self.path))

    def value(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Value of the network at (x, s, t), before the output: the logits of a softmax `Endpoint`, for example.

        Args:
            x: State at time s, (B, ...).
            s: Source time.
            t: Target time.

        Returns:
            The value, in x's dtype. It has x's shape, unless the output takes another one.
        """
        if self.trained is not None and getattr(s, "ndim", 0) != x.ndim:
            self._check_trained(s, t)
        return self._value(x, expand_frames(s, x), expand_frames(t, x))

    def field(self, x: Tensor, s: Time, t: Time) -> Tensor:
        """Denoised field D(x, s, t): F is its exact step. At s = t it is the denoiser, f(x, t) = E[x_0 | x_t = x].

        At the true flow map it is a weighted mean of the denoiser along the path. An `Endpoint` gives it without V, so
        without the pole of V at s = 0. For another output it is x - s V on the linear path (`Path.field`).

        Args:
            x: State at time s, (B, ...).
            s: Source time.
            t: Target time.

        Returns:
            D, of x's shape.
        """
        if isinstance(self.output, Endpoint):
            return self.output.linked(self.value(x, s, t), x)
        return self.path.field(self.average_velocity(x, s, t), x, expand_frames(s, x), expand_frames(t, x))

    def _value(self, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """Value of the network, after checks of the times and of its shape."""
        self._check(s, t)
        before = version(x)
        value = self.network(x, *self._times_of_network(x, s, t), **self.condition)
        refuse_written("the network", x, before)
        shape = getattr(value, "shape", None)
        if shape != x.shape and (shape is None or not getattr(self.output, "reshapes", False)):
            got = f"a {type(value).__name__}" if shape is None else tuple(shape)
            raise ValueError(
                f"the network must return a tensor of the shape of x, {tuple(x.shape)}, but it returned {got}"
            )
        return value.to(x.dtype)

    def _times_of_network(self, x: Tensor, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The times as (B,), or as (B, F) for times per frame, after a check that the map takes these."""
        s, t, axis = common_frames(s, t, x)
        if axis is None:
            return s.reshape(x.shape[0]), t.reshape(x.shape[0])
        expect_frames(self.network, axis, x)
        if self.path.curved or not getattr(self.output, "elementwise", False):
            raise ValueError(
                f"these are times per frame, and {self.path if self.path.curved else repr(self.output)} is no formula "
                "of single numbers: take a path of flat space, and average_velocity, Endpoint, Position or Rotation"
            )
        shape = x.shape[0], x.shape[axis]
        return s.reshape(shape), t.reshape(shape)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """v(x, t) = V(x, t, t)."""
        return self.average_velocity(x, t, t)

    def denoise(self, x: Tensor, t: Time) -> Tensor:
        """f(x, t) = E[x_0 | x_t = x]; on the linear path x - t v(x, t)."""
        return self.path.convert(self.velocity(x, t), x, t, paths.velocity, paths.data)

    def given(self, **condition: Any) -> FlowMap:
        """The same weights with a condition bound: `flow.given(label=y)` is a function of x, s and t alone."""
        bound = self.around(self.network)
        bound.condition = {**self.condition, **condition}
        return bound

    def prepared(self) -> FlowMap:
        """The same map with its bound condition computed once, by `network.prepare(**condition)` if there is one.

        A network with `prepare` turns raw conditions into the ones that its forward reads most cheaply, such as tokens
        of a text into their embeddings, and returns prepared ones unchanged. Losses prepare once for each term, with
        gradient, and samplers once for all steps. Averaged targets and frozen copies get the same prepared condition.
        """
        prepare = getattr(self.network, "prepare", None)
        if prepare is None or not self.condition:
            return self
        ready = self.given()
        ready.condition = prepare(**self.condition)
        if self.trained is not None:
            silent = self.training or torch.compiler.is_compiling()
            if not silent and (said := self.trained.warning_of_conditions(self.condition)) is not None:
                self.warn_once(said, stacklevel=3)
            ready.trained = replace(self.trained, conditions=tuple(ready.condition), dropped=())
        return ready

    @property
    def weights(self) -> nn.Module:
        """The module with all weights of the map: the network, or `Linked` if the link has weights too.

        Copies of it go back into a map by `around`.
        """
        link = self.link
        has_weights = isinstance(link, nn.Module) and next(link.parameters(), None) is not None
        return Linked(self.network, link) if has_weights else self.network

    def around(self, network: Callable[..., Tensor]) -> FlowMap:
        """The same output, path, condition, limits, guidance, units and record of training around another network.

        Args:
            network: Other weights, such as averaged or frozen ones; `Linked` has the weights of the link too.

        Returns:
            The flow map.
        """
        limits = {"only_source": self.only_source, "only_target": self.only_target}
        output = self.output
        if isinstance(linked := network, Linked):
            assert isinstance(output, Endpoint), "only an Endpoint has a link"
            network, output = linked.network, replace(output, link=linked.link)
        # made anew: torch.compile cannot follow a copy
        other = FlowMap(network, output, self.path, guidance=self.guidance, **limits)  # type: ignore[arg-type]
        other.condition, other.training, other.units = self.condition, self.training, self.units
        other.trained, other._said = self.trained, self._said
        return other

    @property
    def like(self) -> Tensor:
        """An empty tensor of the device and dtype for x: the widest dtype among the weights."""
        found = like_weights(self)
        return torch.empty(0) if found is None else found

    @property
    def guided(self) -> str | None:
        """The guidance that the weights have learned, in words; None if none."""
        return None if self.guidance is None else str(self.guidance)

    @property
    def is_partial(self) -> bool:
        """Whether the map knows one source time or one target time only."""
        return self.only_source is not None or self.only_target is not None

    @property
    def has_ode(self) -> bool:
        """Whether its velocity can be followed: the map is not partial, nor its denoised field trained as samples."""
        return not self.is_partial and (self.trained is None or self.trained.warning_of_ode is None)

    def knows(self, s: float, t: float) -> bool:
        """Whether the map can jump from time s to time t."""
        return self.only_source in (None, s) and self.only_target in (None, t)

    def unlimited(self) -> FlowMap:
        """The same weights without the limits of a partial map, for losses that train it at other times too."""
        other = self.around(self.network)
        other.only_source = other.only_target = None
        return other

    def standardised(self) -> FlowMap:
        """The same weights without units: samplers take and return standardised states."""
        other = self.around(self.network)
        other.units = None
        return other

    def _check_trained(self, s: Time, t: Time) -> None:
        """Warn once about times and conditions that were never trained.

        Values of tensors are read on the CPU alone, and not in training, which draws its own times.
        """
        if self.trained is None or torch.compiler.is_compiling():
            return
        found = [self.trained.warning_of_conditions(self.condition)]
        if isinstance(s, int | float) and isinstance(t, int | float):
            found.append(self.trained.warning_of_times(s, t))
        elif not self.training and _is_readable(times := [torch.as_tensor(one) for one in (s, t)]):
            found.append(self.trained.warning_of_tensors(*times))
        for sentence in filter(None, found):
            self.warn_once(sentence, stacklevel=5)
        label = self.condition.get("label")
        if isinstance(label, int) or (isinstance(label, Tensor) and not self.training and _is_readable([label])):
            if (said := self.trained.warning_of_label(label)) is not None:
                self.warn_once(said, stacklevel=5, kind=NULL)

    def warn_once(self, sentence: str, stacklevel: int = 2, kind: str | None = None) -> None:
        """Warn, unless this map, or a copy with another condition, has said the same; numbers do not count."""
        kind = re.sub(r"\d\S*", "", sentence) if kind is None else kind
        if kind not in self._said:
            self._said.add(kind)
            warnings.warn(sentence, stacklevel=stacklevel)

    def _check(self, s: Tensor, t: Tensor) -> None:
        """Refuse values that are no times, and times that a partial map does not know."""
        if torch.compiler.is_compiling() or not _is_readable((s, t)):
            return
        for name, time, only in (("source", s, self.only_source), ("target", t, self.only_target)):
            if not bool(((time >= 0) & (time <= 1)).all()):
                raise ValueError(f"{name} times must lie in [0, 1] (0 is data, 1 is noise), got {_worst(time)}")
            if only is not None and not bool((time == only).all()):
                raise ValueError(_unknown(name, only, _other(time, only)))


def like_weights(model: Any) -> Tensor | None:
    """Make an empty tensor of the device of a model's weights and of the widest dtype among them; None without any."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    # faster than `parameters()`, because each sampler asks
    weights = [weight for module in modules for weight in module._parameters.values() if weight is not None]
    if not weights:
        return None
    dtypes = {weight.dtype for weight in weights if weight.is_floating_point()}
    dtype = functools.reduce(torch.promote_types, dtypes) if dtypes else torch.get_default_dtype()
    return torch.empty(0, dtype=dtype, device=weights[0].device)


def _is_readable(times: Sequence[Tensor]) -> bool:
    """Whether values of times can be read without waiting for a GPU, and outside of a transform of torch.func."""
    readable = all(type(time) is Tensor and time.device.type == "cpu" for time in times)
    return readable and torch._C._functorch.maybe_current_level() is None


def expect_flow(flow: Any) -> None:
    """Check that a value is a flow map, or a guided velocity, which stands in for one.

    Args:
        flow: The value.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(flow, FlowMap):  # of each loss, so `like` is not searched for
        return
    if isinstance(flow, type) or not all(hasattr(flow, name) for name in ("velocity", "network", "path", "like")):
        advice = ": wrap the network, FlowMap(network)" if isinstance(flow, nn.Module) else ""
        raise TypeError(f"expected a FlowMap, got {_kind(flow)}{advice}")


def _kind(value: Any) -> str:
    """The kind of a value, in words."""
    if isinstance(value, type):
        return f"the class {value.__name__}, not an instance of it"
    return "None" if value is None else f"a {type(value).__name__}"


def check_jump(flow: Any, s: float, t: float) -> None:
    """Refuse a jump that a partial map does not know.

    Args:
        flow: A FlowMap, or anything else, which is taken to know all jumps.
        s: Source time.
        t: Target time.

    Raises:
        TypeError: The object makes no jumps.
        ValueError: The map does not know the jump.
    """
    if not callable(flow) or isinstance(flow, type) or (isinstance(flow, nn.Module) and not hasattr(flow, "velocity")):
        advice = ": wrap the network, FlowMap(network)" if isinstance(flow, nn.Module) else ""
        raise TypeError(f"a jump needs a flow map, called as flow(x, s, t), got {_kind(flow)}{advice}")
    # A FlowMap does so itself, except on a GPU, where it would have to wait for the times: here they are still numbers.
    # A rule may give tensors, which the FlowMap checks.
    for name, time in (("source", s), ("target", t)):
        only = getattr(flow, f"only_{name}", None)
        if only is not None and isinstance(time, int | float) and time != only:
            raise ValueError(_unknown(name, only, f"{time:g}"))


def check_velocity(flow: Any, need: str, advice: str = "") -> None:
    """Refuse a partial map, which has no velocity.

    Args:
        flow: A FlowMap, or anything else, which is taken to have a velocity.
        need: The caller's need, to start the message: "this step follows the velocity".
        advice: The way out. Empty: how the map is sampled.

    Raises:
        TypeError: The object has no velocity.
        ValueError: The map is partial.
    """
    if not callable(getattr(flow, "velocity", None)) or isinstance(flow, type):
        advice = ": wrap the network, FlowMap(network)" if isinstance(flow, nn.Module) else ""
        raise TypeError(f"{need}, an object with velocity(x, t), got {_kind(flow)}{advice}")
    for name in ("source", "target"):
        only = getattr(flow, f"only_{name}", None)
        if only is not None:
            raise ValueError(
                f"{need}, and a partial flow map has none: it only knows the {name} time {only:g}; "
                f"{advice or ADVICE[name]}"
            )


def _unknown(name: str, only: float, asked: str) -> str:
    """Compose the message for a time that a partial map does not know."""
    return (
        f"this is a partial flow map: it only knows the {name} time {only:g}, but it was asked for {asked}; "
        f"{ADVICE[name]}"
    )


def _worst(time: Tensor) -> str:
    flat = time.detach().flatten()
    bad = flat[~((flat >= 0) & (flat <= 1))]
    return f"{bad[0].item():g}" + (f" and {len(bad) - 1} more" if len(bad) > 1 else "")


def _other(time: Tensor, only: float) -> str:
    flat = time.detach().flatten()
    return f"{flat[flat != only][0].item():g}"
