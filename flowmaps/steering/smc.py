"""Particles: states with log-weights, moved by a kernel and weighted so that they have the tilted law."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, brief_repr, check_seed, shown, truth, within
from ..draws import seeded_by
from ..flow_map import like_weights
from ..sampling.composition import seeding
from ..sampling.grid import descending
from ..sampling.states import Condition, bound_to, by_name, check_noise, placed, restored, standardised
from ..steps import Kernel, ancestral, named
from .labels import Label
from .look import denoise, widened
from .measurements import Likelihood
from .reward import Rewards, expect_reward, rewarded, scaled
from .shared import Shared
from .spread import precise
from .tilts import expect_value
from .values import Gradient, Value, Valued, check_value, full, norm

FEW = 2.0
"""Effective number of particles below which they have collapsed."""

Watch = Callable[[float, Tensor, Tensor], object]
"""Function of a time, the states of particles then, and their log-weights."""

UNLIKELY = -4.0
"""Lower bound of the log-probability of a label on the way: classifiers are too sure of it."""


@dataclass(frozen=True, repr=False)
class Particles:
    """Weighted samples of a tilted law.

    Attributes:
        x: Data, (G N, ...): N particles for each of G groups, group after group.
        log_weights: Logarithms of their weights, (G, N); the weights of a group sum to 1.
        log_z: Estimate of log Z = log E e^r for each group, (G,). Z itself is estimated without bias.
        ess: Effective number of particles divided by N, before each resampling and at the end, (steps + 1, G).
        rewards: Rewards of the particles, (G N,).
    """

    x: Tensor
    log_weights: Tensor
    log_z: Tensor
    ess: Tensor
    rewards: Tensor

    @property
    def weights(self) -> Tensor:
        """Weights of the particles, (G, N)."""
        return self.log_weights.exp()

    @property
    def kl(self) -> Tensor:
        """Estimate of the divergence of the tilted law from the unsteered one, E* r - log Z, in nats, (G,)."""
        return self.mean(self.rewards) - self.log_z

    def mean(self, values: Tensor) -> Tensor:
        """Weighted mean of values (G N, ...) of the particles in each group, (G, ...)."""
        groups, n = self.log_weights.shape
        rows = values.reshape(groups, n, *values.shape[1:])
        return (self.weights.to(values.device).reshape(groups, n, *[1] * (values.ndim - 1)) * rows).sum(1)

    def resampled(self, seed: int | None = None) -> Tensor:
        """Samples of equal weight, (G N, ...), by systematic resampling; heavy particles come several times.

        Args:
            seed: Seed. None: torch's global generator.

        Returns:
            The samples.
        """
        if seed is None:
            return self.x[systematic(self.log_weights)]
        check_seed(seed)
        with seeded_by(self.x.device, seed):
            return self.x[systematic(self.log_weights)]

    __repr__ = brief_repr


def systematic(log_weights: Tensor) -> Tensor:
    """Draw the indices of systematic resampling.

    Args:
        log_weights: (G, N), up to a constant in each group.

    Returns:
        Indices (G N,) into the G N particles; the expected copies of a particle are N times its weight.
    """
    groups, n = log_weights.shape
    ends = log_weights.softmax(1).cumsum(1)
    start = torch.rand(groups, 1, dtype=ends.dtype, device=ends.device)
    places = (start + torch.arange(n, dtype=ends.dtype, device=ends.device)) / n
    chosen = torch.searchsorted(ends, places * ends[:, -1:], right=True).clamp(max=n - 1)
    return (chosen + n * torch.arange(groups, device=ends.device)[:, None]).flatten()


def effective(log_weights: Tensor) -> Tensor:
    """Effective number of particles, (sum w)^2 / sum w^2, of each group; (G,) of log-weights (G, N)."""
    return (2 * log_weights.logsumexp(1) - (2 * log_weights).logsumexp(1)).exp()


@dataclass
class _State:
    """The particles on the way: all that is known of their states."""

    x: Tensor
    value: Tensor
    slope: Tensor | None
    mean: Tensor
    std: Tensor

    def chosen(self, rows: Tensor) -> _State:
        """The particles of these rows."""
        slope = None if self.slope is None else self.slope[rows]
        return _State(self.x[rows], self.value[rows], slope, self.mean[rows], self.std[rows])


@torch.no_grad()
def particles(
    flow: Any,
    noise: Tensor,
    steps: int | None = None,
    *,
    reward: Rewards,
    value: Valued | None = None,
    kernel: Kernel | str = ancestral,
    push: float = 1.0,
    gradient: Gradient = full,
    resample: float = 0.5,
    groups: int = 1,
    times: Sequence[float] | None = None,
    condition: Condition = None,
    joint: bool = False,
    seed: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    watch: Watch | None = None,
) -> Particles:
    """Sample the tilted law p(x0) e^{r(x0)} / Z by weighted particles (sequential Monte Carlo).

    Args:
        flow: A flow map, an exact distribution, a guided velocity or a teacher.
        noise: States at the first time, (G N, ...): N particles for each of G groups, group after group.
        steps: Number of equal steps. None: 100, or as `times` say.
        reward: The reward of data, the same for all rows of a group.
        value: The value that steers and weighs states on the way. None: `look.widened()` for a likelihood, and
            `look.denoise` for another reward, of a label with the lower bound -4. Any value is right in the limit of
            many particles; the better it is, the fewer are needed.
        kernel: The random step: `steps.ancestral`, `steps.sde(level)`, `steps.restart` or `steps.gamma(g)`.
        push: Largest shift of a particle along the gradient of the value, in standard deviations of the kernel; it may
            be infinite. It costs push^2/2 nats a step at most. 0: no gradient is computed.
        gradient: Gradient of the value for the push.
        resample: Share of N below which the effective number of particles is restored by resampling. 0: never.
        groups: Number of groups G, such as prompts or measurements; particles compete within a group.
        times: Times of the states, from noise to 0.
        condition: Conditions by name, with a row for each particle, alike within a group. A tensor means {"label":
            tensor}.
        joint: Whether particles carry their conditions with them, which may differ within a group then: the law that is
            tilted is the one of data and condition together, with the conditions of the rows equally likely.
        seed: Seed; the global generator is left alone. None: the numbers are drawn from it.
        progress: Function (steps done, steps) that is called after each step, such as of a progress bar.
        watch: Function (time, standardised states (G N, ...), log-weights (G, N)) that is called at each time, before
            particles are resampled.

    Returns:
        The particles.

    Raises:
        TypeError: The kernel has no moments, or the reward or value is no function.
        ValueError: A number is out of its range, the particles do not divide into the groups, the times do not end at
            0, or the kernel is deterministic. In calls: the reward fails its checks.

    With the twist psi_t = e^{V_t} and a kernel N(m, std^2), a particle moves to x' = m + u + std z with the clipped
    push u = std^2 grad V_s, and log w grows by V_t(x') - V_s(x) - |x' - m|^2/(2 std^2) + |z|^2/2; it starts with V_1,
    and the last step adds r(x0) - V_s. TDS (Wu et al. 2023, arXiv 2306.17775) is this without the clipping. The times
    of the kernel leave an error that falls like 1/steps. Warns if a group has collapsed to fewer than two effective
    particles.
    """
    check_noise(noise)
    kernel = _checked(flow, reward, value, kernel)
    if push != math.inf:
        within(0, math.inf, push=push)
    within(0, 1, resample=resample)
    at_least(1, groups=groups)
    truth(joint=joint)
    if len(noise) % groups:
        raise ValueError(f"{len(noise)} particles do not divide into {groups} groups of equal size")
    grid = descending(100 if steps is None and times is None else steps, times)
    if grid[-1] != 0:
        raise ValueError(f"particles have the reward of data, at t = 0, and these times end at {grid[-1]:g}")
    like = like_weights(flow)
    x = placed(like, standardised(flow, noise, grid[0]))
    flow = bound_to(flow, {name: placed(like, one) for name, one in by_name(condition).items()}, len(x))
    run = _Run(flow, reward, value or default_value(reward), kernel, push, gradient, joint)
    if resample > 0:
        _refuse_places(run, x, groups)
    with seeding(seed, x.device):
        return run.sample(x, grid, groups, resample, progress, watch)


@dataclass(frozen=True)
class _Run:
    """The parts of one run of particles."""

    flow: Any
    reward: Rewards
    value: Valued
    kernel: Kernel
    push: float
    gradient: Gradient
    joint: bool

    def carried(self, rows: Tensor) -> _Run:
        """The same run, with the conditions of these particles."""
        known = (getattr(self.flow, "condition", None) or {}).items()
        own = {
            name: value[rows] for name, value in known if isinstance(value, Tensor) and value.shape[:1] == rows.shape
        }
        return replace(self, flow=self.flow.given(**own)) if own else self

    def sample(
        self,
        x: Tensor,
        grid: list[float],
        groups: int,
        resample: float,
        progress: Callable[[int, int], None] | None,
        watch: Watch | None,
    ) -> Particles:
        """Move and weigh the particles from the first time to the last."""
        n, run = len(x) // groups, self
        state = self.seen(x, grid[0], grid[1])
        log_w, log_z = state.value.reshape(groups, n), torch.zeros(groups).to(state.value)
        trace = []
        for k, (s, t) in enumerate(pairwise(grid)):
            trace.append(effective(log_w) / n)
            if watch is not None:
                watch(s, state.x, log_w.log_softmax(1))
            state, log_w, gained, rows = _resampled(state, log_w, trace[-1] < resample, self.joint)
            log_z = log_z + gained
            run = run if rows is None or not self.joint else run.carried(rows)
            if t == 0:
                x = state.mean.to(x.dtype)
                flow_reward = Value(self.reward).in_units_of(self.flow)
                final = rewarded(flow_reward, x.to(torch.promote_types(x.dtype, torch.float32)))
                log_w = log_w + (precise(final) - state.value).reshape(groups, n)
            else:
                x, cost = self.moved(state)
                after = run.seen(x, t, grid[k + 2])
                log_w, state = log_w + (after.value - state.value + cost).reshape(groups, n), after
            if progress is not None:
                progress(k + 1, len(grid) - 1)
        trace.append(effective(log_w) / n)
        if watch is not None:
            watch(0.0, x, log_w.log_softmax(1))
        total = log_w.logsumexp(1)
        ess = torch.stack(trace)
        _warn_collapsed(ess, n)
        x, log_z = restored(self.flow, x, 0.0), log_z + total - math.log(n)
        return Particles(x, log_w - total[:, None], log_z, ess, final)

    def seen(self, x: Tensor, s: float, t: float) -> _State:
        """Look ahead from states at time s, and ask the kernel for its Gaussian at t: one network pass for the two."""
        shared, slope = Shared(self.flow), None
        if self.push > 0 and t > 0:
            value, slope = self.gradient(self.value, shared, x, s)
        else:
            value = self.value(shared, x, s)
        value = check_value(value, x)
        if not bool(value.isfinite().all()):
            raise ValueError(f"the value must be finite, and it is not at time {s:g}: check the reward")
        mean, std = self.kernel.moments(shared, x, s, t)
        std = std.detach().expand(len(x), *[1] * (x.ndim - 1))
        if t > 0 and not bool(std.all()):
            raise ValueError(
                "particles need a kernel that adds noise, or copies of a particle never part: take steps.ancestral, or "
                "a level or share of noise above 0"
            )
        return _State(x, precise(value.detach()), slope, mean.detach(), std)

    def moved(self, state: _State) -> tuple[Tensor, Tensor]:
        """Move particles by the kernel and the push. Returns the states and -|x' - m|^2/(2 std^2) + |z|^2/2."""
        z = torch.randn_like(state.x)
        if state.slope is None:
            return (state.mean + state.std * z).to(state.x.dtype), torch.zeros_like(state.value)
        shift = state.std * state.slope.to(state.std.dtype)  # in standard deviations
        if self.push < math.inf:
            shift = shift * (self.push / norm(shift).clamp(min=self.push))
        x = (state.mean + state.std * (shift + z)).to(state.x.dtype)
        return x, -precise(shift * (z + shift / 2)).flatten(1).sum(1)


def _resampled(state: _State, log_w: Tensor, low: Tensor, joint: bool) -> tuple[_State, Tensor, Tensor, Tensor | None]:
    """Resample the groups whose effective number is low. Returns also the log of the mean weight, and the rows."""
    groups, n = log_w.shape
    order = _shuffled(log_w) if joint else torch.arange(groups * n, device=log_w.device)
    drawn = order[systematic(log_w.flatten()[order].reshape(groups, n))]
    # drawn in any case, so that no group changes the random numbers of another
    if not bool(low.any()):
        return state, log_w, torch.zeros_like(log_w[:, 0]), None
    rows = torch.where(low[:, None], drawn.reshape(groups, n), torch.arange(groups * n).to(drawn).reshape(groups, n))
    gained = torch.where(low, log_w.logsumexp(1) - math.log(n), 0.0)
    rows = rows.flatten()
    return state.chosen(rows), torch.where(low[:, None], 0.0, log_w), gained, rows


def _shuffled(log_w: Tensor) -> Tensor:
    """Particles in a random order inside their groups, (G N,): classes in turn resonate with systematic resampling."""
    groups, n = log_w.shape
    order = torch.rand(log_w.shape, device=log_w.device).argsort(1)
    return (order + n * torch.arange(groups, device=log_w.device)[:, None]).flatten()


def default_value(reward: Rewards, k: float = 1.0) -> Value:
    """The value of a reward, times an inverse temperature, where none is given.

    Args:
        reward: The reward.
        k: The inverse temperature.

    Returns:
        The value with `look.widened()` for a likelihood, and `look.denoise` for another reward, of a label with a lower
        bound.
    """
    known = reward if k == 1 else scaled(reward, k)
    if isinstance(reward, Likelihood):
        return Value(known, widened())
    return Value(known, denoise, floor=k * UNLIKELY if isinstance(reward, Label) else None)


def _checked(flow: Any, reward: Rewards, value: Valued | None, kernel: Any) -> Kernel:
    """Check the functions of a run. Returns the kernel."""
    expect_reward(reward)
    if value is not None:
        expect_value(value)
    kernel = named(kernel)
    if not callable(getattr(kernel, "moments", None)):
        raise TypeError(
            f"particles need a kernel, a step with moments: steps.ancestral, steps.sde(level), steps.restart or "
            f"steps.gamma(g), got {shown(kernel)}"
        )
    return kernel


def _refuse_places(run: _Run, x: Tensor, groups: int) -> None:
    """Refuse conditions and rewards that differ within a group: resampling moves particles to other rows."""
    n = len(x) // groups

    def differ(rows: Tensor, tolerance: float) -> bool:
        first = rows.reshape(groups, n, -1)[:, :1]
        return bool(((rows.reshape(groups, n, -1) - first).abs() > tolerance * (1 + first.abs())).any())

    advice = f"resampling moves particles to other rows of their group, of {n} rows here: pass groups=, or resample=0"
    for name, value in () if run.joint else (getattr(run.flow, "condition", None) or {}).items():
        if isinstance(value, Tensor) and value.ndim and len(value) == len(x) > 1 and differ(value.double(), 0.0):
            raise ValueError(
                f"the condition {name!r} differs between particles of one group, and {advice}, or joint=True"
            )
    alike = x.reshape(groups, n, *x.shape[1:])[:, :1].expand(groups, n, *x.shape[1:]).reshape(x.shape)
    wide = alike.to(torch.promote_types(x.dtype, torch.float32))
    if differ(rewarded(Value(run.reward).in_units_of(run.flow), wide), 1e-3):
        raise ValueError(f"the reward differs between equal data in rows of one group, and {advice}")


def _warn_collapsed(ess: Tensor, n: int) -> None:
    """Warn if the effective number of particles was too small."""
    least = float(ess.min()) * n
    if n > FEW and least < FEW:
        warnings.warn(
            f"the particles collapsed: their effective number fell to {least:.3g} of {n}, so that log_z and the "
            "samples are not to be trusted. Take a better look-ahead (look.widened for measurements, draws such as "
            "look.glass for sharp rewards), more steps, more particles, or a weaker reward (rewards.scaled)",
            stacklevel=5,
        )


__all__ = ["Particles", "effective", "particles", "systematic"]
