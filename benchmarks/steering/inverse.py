"""Inverse problems on held-out digits: a hole, blur and a lower resolution, measured with noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.steering.classes import OTHER, SEED, passes
from benchmarks.steering.labels import noise
from benchmarks.steering.networks import Networks, data
from flowmaps.evaluate import Estimate

S, L = fm.steering, fm.look
STD = 0.2
"""Standard deviation of the noise of a measurement, for images in [-1, 1]."""
IMAGES, VALIDATION, DRAWS, LEVEL = 40, 12, 32, 0.9
"""Held-out images, further ones for the choice of settings, draws for each image, and the level of the intervals."""
LEVELS = 2 / 16
"""Distance of the grey levels of the data."""
STEPS = 50
VARIES = 0.1
"""Smallest standard deviation of a pixel over the data with which it counts for the coverage."""


def hole() -> Any:
    """The operator that leaves out the 4 x 4 pixels in the middle."""
    kept = torch.ones(8, 8)
    kept[2:6, 2:6] = 0
    return fm.rewards.mask(kept)


PROBLEMS: dict[str, tuple[str, Callable[[], Any]]] = {
    "hole": ("a hole of 4 x 4 pixels", hole),
    "blur": ("blur of 1 pixel", lambda: fm.rewards.blur(1.0)),
    "half": ("half the resolution", lambda: fm.rewards.downsample(2)),
}


@dataclass(frozen=True)
class Problem:
    """Measurements of images, each several times: a row for each draw.

    Args:
        name: Name of the problem.
        truth: The images, (B, 1, 8, 8).
        y: Their measurements.
        draws: Draws for each image.
    """

    name: str
    truth: Tensor
    y: Tensor
    draws: int = DRAWS

    @property
    def A(self) -> Any:
        """The operator."""
        return PROBLEMS[self.name][1]()

    def reward(self, draws: int = DRAWS) -> fm.rewards.Likelihood:
        """The likelihood, with a row for each of some draws of each image."""
        return fm.rewards.Likelihood(self.A, self.y.repeat_interleave(draws, 0), STD)

    def noise(self, seed: int, draws: int = DRAWS) -> Tensor:
        """Noise of as many rows."""
        return noise(draws * len(self.truth), seed)


Solve = Callable[..., Tensor]
"""(networks, problem, seed, **setting) -> draws (B draws, 1, 8, 8), image after image."""


@dataclass(frozen=True)
class Solver:
    """A method for inverse problems, with the settings that are tried, and the problems that it is for."""

    title: str
    solve: Solve
    settings: Sequence[dict[str, Any]] = field(default_factory=lambda: [{}])
    only: Sequence[str] = tuple(PROBLEMS)


def prior(networks: Networks, problem: Problem, seed: int) -> Tensor:
    """Samples without regard to the measurement."""
    return fm.sample(networks.base, problem.noise(seed))


def gaussians(networks: Networks, problem: Problem, seed: int) -> Tensor:
    """The posterior of ten Gaussians with mean and covariance of the classes, in closed form."""
    rows = data().draw(data().size or 0)
    assert rows.label is not None
    each = [rows.x0[rows.label == k].flatten(1).double() for k in range(10)]
    law = fm.exact.GaussianMixture(
        torch.tensor([len(one) / len(rows.x0) for one in each], dtype=torch.float64),
        torch.stack([one.mean(0) for one in each]).reshape(10, 1, 8, 8),
        covariances=torch.stack([torch.cov(one.T) + 1e-3 * torch.eye(64) for one in each]),
    )
    drawn = torch.Generator().manual_seed(seed)
    found = [law.tilted(fm.rewards.Likelihood(problem.A, y.double(), STD))[0].sample(DRAWS, drawn) for y in problem.y]
    return torch.cat(found).float()


def stepped(networks: Networks, problem: Problem, seed: int, step: Any, steps: int = STEPS) -> Tensor:
    """Samples by some steps."""
    return fm.sample(networks.base, problem.noise(seed), steps, step=step, seed=seed)


def dps(networks: Networks, problem: Problem, seed: int, data_std: float) -> Tensor:
    """Corrected DPS."""
    return stepped(networks, problem, seed, S.dps(problem.reward(), data_std=data_std))


def published_dps(networks: Networks, problem: Problem, seed: int, strength: float) -> Tensor:
    """Published DPS."""
    return stepped(networks, problem, seed, S.dps(problem.reward(), strength, published=True))


def tilted(networks: Networks, problem: Problem, seed: int, data_std: float | None = None) -> Tensor:
    """The ODE of the tilted velocity, by a Gaussian of fixed width or with the moments of the denoiser."""
    look = L.moments() if data_std is None else L.widened(data_std)
    return stepped(networks, problem, seed, S.tilted(fm.steps.euler, S.value(problem.reward(), look)))


def particles(networks: Networks, problem: Problem, seed: int, data_std: float, n: int = 2 * DRAWS) -> Tensor:
    """Particles of each image, of which the draws are taken after resampling."""
    reward, groups = problem.reward(n), len(problem.truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of particles that collapse, which the coverage shows
        found = S.particles(
            networks.base, problem.noise(seed, n), STEPS, reward=reward, value=S.value(reward, L.widened(data_std)),
            groups=groups, seed=seed,
        )  # fmt: skip
    each = found.resampled(seed).reshape(groups, n, 1, 8, 8)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:DRAWS]
    return each[:, order].flatten(0, 1)


def fmrg(networks: Networks, problem: Problem, seed: int, strength: float) -> Tensor:
    """FMRG-E, for measurements."""
    return stepped(networks, problem, seed, S.fmrg(problem.reward(), strength, jacobian=False))


def cm_solver(networks: Networks, problem: Problem, seed: int, strength: float) -> Tensor:
    """The solver for consistency models."""
    return stepped(networks, problem, seed, S.cm_solver(problem.reward(), strength), STEPS * 2 // 3)


def weighted_diamond(networks: Networks, problem: Problem, seed: int, n: int, snr: float) -> Tensor:
    """Weighted Diamond, by the rewards of the draws alone."""
    step = S.weighted_diamond(problem.reward(), n, snr, by_gradient=False, step=fm.steps.ancestral)
    return stepped(networks, problem, seed, step, 100 // (1 + n))


def meta_flow_map(networks: Networks, problem: Problem, seed: int, n: int, by_gradient: bool = False) -> Tensor:
    """Draws of the posterior map."""
    step = S.meta_flow_map(networks.posterior, problem.reward(), n, by_gradient=by_gradient, step=fm.steps.ancestral)
    return stepped(networks, problem, seed, step, 100 // (1 + n * (2 if by_gradient else 1)))


def variational(networks: Networks, problem: Problem, seed: int, joint: bool = False) -> Tensor:
    """One jump from the noise of an adapter that was trained for this operator."""
    flow, adapter = networks.adapted(problem.name, problem.A, STD, joint)
    return S.variational(flow, adapter, problem.y.repeat_interleave(DRAWS, 0), seed=seed)


WIDTHS = [{"data_std": d} for d in (0.2, 0.35, 0.6)]
SOLVERS: dict[str, Solver] = {
    "prior": Solver("not steered", prior),
    "gaussians": Solver("ten Gaussians for prior, closed form", gaussians),
    "dps": Solver("DPS, corrected", dps, WIDTHS),
    "published_dps": Solver("DPS, published", published_dps, [{"strength": k} for k in (0.1, 0.3, 1.0)]),
    "tilted": Solver("tilt, `look.widened`", tilted, WIDTHS),
    "moments": Solver("tilt, `look.moments`", tilted, only=("half",)),
    "particles": Solver("particles, `look.widened`", particles, WIDTHS),
    "fmrg": Solver("FMRG-E", fmrg, [{"strength": k} for k in (0.03, 0.1, 0.3, 1.0)]),
    "cm_solver": Solver("CM solver", cm_solver, [{"strength": k} for k in (0.1, 0.3, 1.0)]),
    "weighted_diamond": Solver(
        "Weighted Diamond", weighted_diamond, [{"n": n, "snr": snr} for n in (8, 16) for snr in (4.0, 10.0)]
    ),
    "meta_flow_map": Solver("meta flow map", meta_flow_map, [{"n": 8}, {"n": 16}, {"n": 1, "by_gradient": True}]),
    "variational": Solver("variational flow map, map frozen", variational),
    "joint": Solver("variational flow map, joint", variational, [{"joint": True}]),
}
"""The methods by name."""


def problem_of(name: str, validation: bool = False) -> Problem:
    """A problem on held-out images, or on others for the choice of settings."""
    rows = data().held_out(IMAGES + VALIDATION).x0
    truth = rows[IMAGES:] if validation else rows[:IMAGES]
    clean = PROBLEMS[name][1]()(truth)
    added = torch.randn(clean.shape, generator=torch.Generator().manual_seed(OTHER if validation else SEED))
    return Problem(name, truth, clean + STD * added)


def by_image(values: Tensor) -> Estimate:
    """Mean over images, with its standard error."""
    return Estimate(float(values.mean()), float(values.std()) / math.sqrt(len(values)))


def inside(x: Tensor, truth: Tensor) -> Tensor:
    """Whether values (B, D) are in the 90% intervals of draws (B, N, D).

    An interval ends at the fractional ranks p (N + 1), so that N exchangeable draws cover the truth with the right
    probability.
    """
    n = x.shape[1]
    ends = [p * (n + 1) - 1 for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    low, high = torch.quantile(x, torch.tensor([end / (n - 1) for end in ends]), dim=1)
    return (low <= truth) & (truth <= high)


def levels(x: Tensor) -> Tensor:
    """Values rounded to the grey levels of the data."""
    return ((x + 1) / LEVELS).round().clamp(0, 2 / LEVELS) * LEVELS - 1


def dequantised(x: Tensor) -> Tensor:
    """Values with uniform noise of one grey level of the data, so that most images do not share values."""
    return x + LEVELS * (torch.rand(x.shape, generator=torch.Generator().manual_seed(SEED)) - 0.5)


def measures(problem: Problem, x: Tensor) -> dict[str, Any]:
    """PSNR of the mean, coverage of the intervals, residual, and the energy form of the error, by image."""
    rows, truth = x.reshape(len(problem.truth), -1, 64), problem.truth.flatten(1)
    varies = data().draw(data().size or 0).x0.flatten(1).std(0) > VARIES
    covered = inside(dequantised(levels(rows)), dequantised(truth))[:, varies].float().mean(1)
    residual = (problem.A(x) - problem.y.repeat_interleave(rows.shape[1], 0)).flatten(1)
    error = (rows.mean(1) - truth).square().mean(1)
    spread = (rows[:, :, None] - rows[:, None]).abs().sum((1, 2)) / (rows.shape[1] * (rows.shape[1] - 1))
    found = {
        "psnr": by_image(10 * torch.log10(4 / error)),
        "coverage": by_image(covered),
        "residual": by_image(residual.square().mean(1).reshape(len(truth), -1).mean(1) / STD**2),
        "crps": by_image(((rows - truth[:, None]).abs().mean(1) - spread / 2).mean(1)),
    }
    return {key: {"value": one.value, "stderr": one.stderr} for key, one in found.items()}


def floors(name: str) -> dict[str, Any]:
    """The residual of the truth, which has the noise alone, and the coverage by intervals of other real images."""
    problem = problem_of(name)
    residual = (problem.A(problem.truth) - problem.y).flatten(1).square().mean(1) / STD**2
    images, many = data().draw(data().size or 0).x0, DRAWS * len(problem.truth)
    others = images[torch.randint(len(images), (many,), generator=torch.Generator().manual_seed(SEED))]
    coverage = measures(problem, others)["coverage"]
    return {"residual": by_image(residual)._asdict(), "coverage": coverage}


def preferred(tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The setting with the coverage that is nearest to its level, of those within one error of the smallest CRPS."""
    best = min(tried, key=lambda one: one["crps"])
    alike = [one for one in tried if one["crps"] <= best["crps"] + best["stderr"]]
    chosen: dict[str, Any] = min(alike, key=lambda one: abs(one["coverage"] - LEVEL))["setting"]
    return chosen


def result(networks: Networks, name: str, solver: str) -> dict[str, Any]:
    """Choose the settings of a method on other images, by CRPS and coverage, and measure it."""
    method, tried = SOLVERS[solver], []
    for setting in method.settings if len(method.settings) > 1 else ():
        problem = problem_of(name, validation=True)
        found = measures(problem, method.solve(networks, problem, OTHER, **setting))
        kept = {key: found[key]["value"] for key in ("crps", "coverage", "psnr")}
        tried.append({"setting": setting, "stderr": found["crps"]["stderr"], **kept})
    chosen = preferred(tried) if tried else method.settings[0]
    problem = problem_of(name)
    method.solve(
        networks, problem_of(name, validation=True), OTHER, **chosen
    )  # makes the networks, to count their calls
    with passes(networks) as counted:
        x = method.solve(networks, problem, SEED, **chosen)
        calls = counted() / len(x)
    return {"calls": calls, "setting": chosen, "tried": tried, **measures(problem, x)}
