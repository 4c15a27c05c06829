"""The papers' methods, each a sentence of the parts of steering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..arguments import at_least, given, positive, shown
from ..path import expand, linear
from ..sampling.composition import sample, seeding
from ..steps import Step, ancestral, euler, jump, sde
from .correct import corrected, recurred
from .look import denoise, posterior, renoise, widened
from .look import jump as by_jump
from .measurements import Likelihood
from .reward import Rewards
from .smc import Particles, particles
from .tilts import tilted
from .values import Gradient, free, full, normalised, stopped, value
from .without_values import descended


def dps(likelihood: Likelihood, strength: float = 0.3, *, data_std: float = 0.5, published: bool = False) -> Step:
    """Diffusion posterior sampling of a measurement, as a step: one pass and one backward pass.

    Args:
        likelihood: The measurement.
        strength: Size of the published correction: 0.3 for super-resolution and blur, 0.5 for holes, 1 for phases.
        data_std: Width of the data in directions that the measurement leaves open, for the corrected form.
        published: Whether to take the published form.

    Returns:
        The step, for `fm.sample(flow, noise, 100, step=...)`.

    Raises:
        ValueError: A number is not positive.

    The published form, an ancestral step minus strength times grad |y - A f(x, s)|, is biased: it draws from no
    posterior and its samples have far too little spread. The default is the ancestral step of the velocity that is
    tilted by the likelihood of f, widened by the spread of x0 around f. Chung et al. 2023, arXiv 2209.14687.
    """
    positive(strength=strength)
    if published:
        return corrected(ancestral, value(likelihood.distance), lambda s, t: strength, at_start=True)
    return tilted(ancestral, value(likelihood, widened(data_std)))


def cm_solver(likelihood: Likelihood, strength: float = 0.3, *, step: Step = ancestral) -> Step:
    """Solve an inverse problem by a consistency model or flow map in the place of DPS's denoiser, as a step.

    Args:
        likelihood: The measurement, of a nonlinear operator above all; for linear ones the denoised state is as good.
        strength: Size of the correction.
        step: The step; `steps.restart` for consistency models, which only know t = 0.

    Returns:
        The step. Like published DPS it draws from no posterior; `particles` with `look.jump()` weigh its error away.

    Raises:
        ValueError: The strength is not positive.

    Xu et al. 2024, arXiv 2403.12063.
    """
    positive(strength=strength)
    return corrected(step, value(likelihood.distance, by_jump()), lambda s, t: strength, at_start=True)


def universal(
    reward: Rewards, forward: float = 1.0, *, backward: int = 0, rate: float = 0.02, recurrence: int = 1,
    step: Step = euler,
) -> Step:  # fmt: skip
    """Universal guidance by any reward, as a step: forward, backward and recurrent.

    Args:
        reward: The reward, the negative loss of the paper.
        forward: Scale of the gradient through the denoiser. 0: none.
        backward: Steps of gradient ascent in x0 itself. 0: none.
        rate: Their learning rate.
        recurrence: How often each step is taken, 2 to 10 in the paper.
        step: The step of the velocity.

    Returns:
        The step, for `fm.sample`. Scale 1 is the law p e^r up to the error of the denoised state; the paper's scales (2
        to 5 for CLIP, 100 for detection, 400 for segmentation) maximise the reward instead.

    Raises:
        ValueError: A number is out of its range.

    Bansal et al. 2023, arXiv 2302.07121, with the path's own re-noising.
    """
    guided = tilted(step, value(reward, denoise), scale=forward) if forward else step
    if not backward:
        return recurred(guided, recurrence)
    return recurred(lambda flow, x, s, t: guided(descended(flow, reward, backward, rate), x, s, t), recurrence)


def tds(
    flow: Any,
    noise: Tensor,
    steps: int = 100,
    *,
    reward: Rewards,
    push: float = 1.0,
    floor: float | None = None,
    **options: Any,
) -> Particles:
    """Twisted diffusion sampling: particles with the denoised state as look-ahead.

    Args:
        flow: The flow.
        noise: Noise, (N, ...).
        steps: Number of steps.
        reward: The reward.
        push: Largest push in standard deviations of the kernel.
        floor: Lower bound of the value, about -4 for the label of a classifier. None: none.
        **options: Further arguments of `particles`.

    Returns:
        The particles.

    It is exact in the limit of many particles and steps. The published push is not clipped, `push=math.inf`, which is
    exact too but collapses for sharp rewards. The published resampling is multinomial. Wu et al. 2023, arXiv
    2306.17775.
    """
    options = {"value": value(reward, denoise, floor=floor), **options}
    return particles(flow, noise, steps, reward=reward, push=push, **options)


def fmtt(
    flow: Any,
    noise: Tensor,
    steps: int = 50,
    *,
    reward: Rewards,
    jumps: int = 1,
    level: float = 1.0,
    floor: float | None = None,
    **options: Any,
) -> Particles:
    """Flow map trajectory tilting: particles with the flow map as look-ahead.

    Args:
        flow: The flow map.
        noise: Noise, (N, ...): 16 to 256 particles for images.
        steps: Number of steps.
        reward: The reward.
        jumps: Jumps of the look-ahead, 1 to 4.
        level: Noise of the kernel `steps.sde(level)`.
        floor: Lower bound of the value, about -4 for the label of a classifier. None: none.
        **options: Further arguments of `particles`; the paper resamples at an effective number of 0.9 N in its ring.

    Returns:
        The particles.

    The published weights integrate lambda'(t) r(F) over time, which is right in the limit of many steps and biased at
    50 to 200, because grad r(F) has spikes where paths part. Here particles have the weights of the discrete kernel,
    exact for any number of steps up to the kernel's own error, with lambda = alpha(t). Their search for images keeps
    the best 32 particles at two to four times, which maximises and draws from no law: `best_of`. arXiv 2511.22688.
    """
    options = {"value": value(reward, by_jump(jumps), floor=floor), "kernel": sde(level), **options}
    return particles(flow, noise, steps, reward=reward, **options)


def fmrg(
    reward: Rewards, strength: float = 1.0, *, jacobian: bool = True, inner: int = 1, until: float = 0.0,
    relative: float | None = None, jumps: int = 1,
) -> Step:  # fmt: skip
    """Flow map reward guidance, as a step: a jump, then gradient steps on the reward of the jump to data.

    Args:
        reward: The reward.
        strength: Rate lambda of the correction.
        jacobian: Whether the gradient passes through the map (FMRG-J, for neural rewards), or is taken at the data and
            added to the state (FMRG-E, for measurements).
        inner: Gradient steps in each step.
        until: Time below which steps are plain jumps.
        relative: Norm of the gradient in units of the norm of the velocity, as in the paper. None: as it is.
        jumps: Jumps of the look-ahead.

    Returns:
        The step, for `fm.sample(flow, noise, 8, step=...)`.

    Raises:
        ValueError: A number is out of its range.

    It maximises the reward and draws from no tilted law: for N(0, 1) and r = -a (x - m)^2/2 the samples have the
    standard deviation e^(-pi strength a/2), and the tilted law has 1/sqrt(1 + a). In the code of FMRG-J the inner steps
    after the first look ahead by the denoiser; here all look ahead by the map. arXiv 2604.27147.
    """
    gradient: Gradient = full if jacobian else stopped
    positive(**given(relative=relative))
    if relative is not None:
        gradient = normalised(relative, gradient)
    return corrected(jump, value(reward, by_jump(jumps)), strength, inner, gradient, until)


def meta_flow_map(
    map: Any, reward: Rewards, n: int = 8, *, by_gradient: bool = False, step: Step = euler, limit: float = 25.0
) -> Step:
    """Steer by the draws of a posterior map, as a step: n jumps of the map for each state.

    Args:
        map: The posterior map, trained by `fm.methods.meta_flow_map`; called with `given(state=x, at=t)`.
        reward: The reward; it needs a gradient if `by_gradient`.
        n: Number of draws.
        by_gradient: Whether the gradient passes through the draws (MFM-G). Otherwise their rewards alone weigh them
            (MFM-GF), which is far better at an equal number of draws for sharp rewards.
        step: The step of the velocity.
        limit: Bound of b(t), as in `tilt`; 25 in the paper.

    Returns:
        The step, for `fm.sample(flow, noise, 50, step=...)`. It samples the law p e^r in the limit of many draws.

    Raises:
        TypeError: The map takes no conditions.
        ValueError: A number is out of its range, or there is a single draw without a gradient.

    On ImageNet the paper gives the gradient the norm of the velocity, `gradient=fm.steering.normalised()` of `tilted`.
    Potaptchik et al. 2026, Meta Flow Maps, arXiv 2601.14430.
    """
    at_least(1 if by_gradient else 2, n=n)
    return tilted(step, value(reward, posterior(map, n)), gradient=full if by_gradient else free, limit=limit)


def diamond(
    flow: Any, noise: Tensor, steps: int = 50, *, map: Any, reward: Rewards, n: int = 8, **options: Any
) -> Particles:
    """Particles whose value is the mean weight of draws of a posterior diamond map.

    Args:
        flow: The flow.
        noise: Noise, (N, ...).
        steps: Number of steps.
        map: The posterior map, trained by `fm.methods.diamond`.
        reward: The reward.
        n: Draws for each state.
        **options: Further arguments of `particles`; `push=0` needs no gradient of the reward.

    Returns:
        The particles; any map gives the right law, and a good one the largest effective number.

    Holderrieth et al. 2026, Diamond maps, arXiv 2602.05993.
    """
    options = {"value": value(reward, posterior(map, n)), **options}
    return particles(flow, noise, steps, reward=reward, **options)


def weighted_diamond(
    reward: Rewards,
    n: int = 8,
    snr: float = 1.3,
    *,
    log_prob: Callable[[Tensor, Tensor], Tensor] | None = None,
    by_gradient: bool = True,
    step: Step = euler,
) -> Step:
    """Steer by jumps from re-noised states, as a step: the draws of an ordinary flow map, with weights.

    Args:
        reward: The reward.
        n: Draws for each state, 1 to 32.
        snr: Factor by which re-noising lowers the signal-to-noise ratio: 1.1 to 1.5 for FLUX, 20 for SANA.
        log_prob: The function (z, t) -> log p_t(z), for exact importance weights. None: the rewards alone weigh the
            draws, which is cheap and biased.
        by_gradient: Whether the gradient passes through the draws.
        step: The step of the velocity.

    Returns:
        The step, for `fm.sample`.

    Raises:
        ValueError: A number is out of its range.

    The published weights have the denoised state in the place of the jump, and an approximation of log p_t(z); both
    are biased, and `look.renoise` has neither. Near t = 1 few draws have most of the weight, so that the exact weights
    need many. Without `log_prob` the value does not vanish there, and in few steps samples can leave the data.
    Holderrieth et al. 2026, arXiv 2602.05993.
    """
    at_least(1 if by_gradient else 2, n=n)
    return tilted(step, value(reward, renoise(n, snr, log_prob)), gradient=full if by_gradient else free)


def variational(flow: Any, adapter: Any, y: Tensor, *, seed: int | None = None) -> Tensor:
    """Draw data that fit measurements in one jump, from the noise of a trained adapter.

    Args:
        flow: The flow map.
        adapter: A `fm.methods.NoiseAdapter`, trained by `fm.methods.variational`.
        y: Measurements, one for each row of the result.
        seed: Seed. None: torch's global generator.

    Returns:
        Data, (B, ...). Their law is the posterior up to the gap of the adapter, which is above 0 unless the jump is
        linear.

    Variational flow maps, arXiv 2603.07276.
    """
    if not callable(getattr(adapter, "sample", None)):
        raise TypeError(f"variational needs a noise adapter, fm.methods.NoiseAdapter, got {shown(adapter)}")
    with torch.no_grad(), seeding(seed, y.device):
        z = adapter.sample(y)
    return sample(flow, z * getattr(flow, "path", linear).sigma(expand(1.0, z)))
