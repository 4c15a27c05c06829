"""Steering on laws with known answers: which look-aheads are right for a sharp measurement, and which fail.

The law has three wide components in the plane; one direction is measured sharply, y = 1.2 x1 - .8 x2 + .2 n = -1.
Evidence and posterior are in closed form.

    python -m benchmarks.steering_beds
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm

from .tables import machine, markdown

L, S = fm.look, fm.steering
SEEDS, PARTICLES, STEPS, SAMPLES = 12, 1024, 100, 2048
A = torch.tensor([[1.2, -0.8]], dtype=torch.float64)
REWARD = fm.rewards.Likelihood(A, torch.tensor([-1.0], dtype=torch.float64), 0.2)
LAW = fm.exact.GaussianMixture([1 / 3] * 3, [[-3.0, -3.0], [0.0, 0.0], [3.0, 3.0]], math.sqrt(0.5))
POSTERIOR, LOG_Z = LAW.tilted(REWARD)


class Jumps:
    """The law's flow map by eight Heun steps, which is quick to differentiate."""

    path = LAW.path
    velocity, denoise = LAW.velocity, LAW.denoise

    def __call__(self, x: Tensor, s: float, t: float) -> Tensor:
        """F(x, s, t)."""
        times = [s + (t - s) * k / 8 for k in range(8)] + [t]
        for a, b in zip(times, times[1:], strict=False):
            x = fm.steps.heun(LAW, x, a, b)
        return x


LOOKS: dict[str, tuple[str, Any, Any]] = {
    "none": ("no value on the way", LAW, None),
    "denoise": ("`look.denoise`: r(f)", LAW, L.denoise),
    "jump": ("`look.jump()`: r(F)", Jumps(), L.jump()),
    "widened": ("`look.widened(0.7)`", LAW, L.widened(0.7)),
    "moments": ("`look.moments()`", LAW, L.moments()),
    "glass": ("`look.glass(8, 8)`, 8 draws", LAW, L.glass(8, 8)),
}


def noise(n: int, seed: int) -> Tensor:
    """Standard noise."""
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_particles(name: str) -> dict[str, list[float]]:
    """Evidence and effective number of particles, seed by seed."""
    _, flow, look = LOOKS[name]
    nothing: Callable[..., Tensor] = lambda flow, x, t: x.new_zeros(len(x))  # noqa: E731
    value, push = (nothing, 0.0) if look is None else (S.value(REWARD, look), 1.0)
    found: dict[str, list[float]] = {"log_z": [], "ess": []}
    for seed in range(SEEDS):
        out = S.particles(flow, noise(PARTICLES, seed), STEPS, reward=REWARD, value=value, push=push, seed=seed)
        found["log_z"].append(float(out.log_z))
        found["ess"].append(float(out.ess.min()))
    return found


def by_ode(flow: Any, step: Any, times: Sequence[float]) -> dict[str, float]:
    """Distance of the weights of the components from the posterior's, and the spread along the measured direction."""
    x = fm.sample(flow, noise(SAMPLES, 0), times=times, step=step, seed=0)
    weights = POSTERIOR.posterior(x, 0.0).mean(0)
    return {
        "weights": float((weights - POSTERIOR.weights).abs().sum() / 2),
        "spread": float(((x @ A[0] + 1) ** 2).mean().sqrt()),
    }


def odes() -> dict[str, dict[str, float]]:
    """All steered solutions of the ODE, and the published steps."""
    times = [0.999 * (1 - k / STEPS) for k in range(STEPS)] + [0.0]
    found = {}
    for name, (_, flow, look) in LOOKS.items():
        if look is not None:
            tilted = S.tilt(flow, S.value(REWARD, look), limit=1e3)
            found[name] = by_ode(tilted, fm.steps.euler if name == "glass" else fm.steps.heun, times)
    free = S.tilt(LAW, S.value(REWARD, L.glass(8, 8)), gradient=S.free, limit=1e3)
    found["free"] = by_ode(free, fm.steps.euler, times)
    found["dps"] = by_ode(LAW, S.dps(REWARD, published=True), times)
    found["fmrg"] = by_ode(Jumps(), S.fmrg(REWARD, relative=1.0), times[:: STEPS // 10])
    return found


def table(found: dict[str, Any]) -> str:
    """The table of the page."""
    spread = math.sqrt(float((A @ POSTERIOR.covariances[0] @ A.T)[0, 0]) + 0.0)
    spread = math.sqrt(sum(float(w) * (spread**2 + (float(A[0] @ m) + 1) ** 2)
                           for w, m in zip(POSTERIOR.weights, POSTERIOR.means, strict=True)))  # fmt: skip
    rows = [["exact", f"{float(LOG_Z):.3f}", "", "0", f"{spread:.3f}"]]
    names = {name: label for name, (label, _, _) in LOOKS.items()} | {
        "free": "`look.glass(8, 8)`, gradient-free", "dps": "published DPS", "fmrg": "FMRG, 10 jumps, normalised",
    }  # fmt: skip
    for name, label in names.items():
        one, ode = found["particles"].get(name), found["odes"].get(name)
        evidence = "" if one is None else f"{mean(one['log_z']):.3f} ± {stdev(one['log_z']) / SEEDS**0.5:.3f}"
        ess = "" if one is None else f"{mean(one['ess']):.2f}"
        tail = ["", ""] if ode is None else [f"{ode['weights']:.3f}", f"{ode['spread']:.3f}"]
        rows.append([label, evidence, ess, *tail])
    header = ["look-ahead", "log Z of particles", "least ESS / N", "ODE: distance of weights", "ODE: spread of A x - y"]
    return markdown(header, rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/steering_beds"))
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "results.json"
    if not target.exists():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of particles that collapse, which is the result here
            particles = {name: by_particles(name) for name in LOOKS}
        found = {"machine": machine(), "particles": particles, "odes": odes()}
        target.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(target.read_text())
    text = f"{table(found)}\n\n{found['machine']}; command: python -m benchmarks.steering_beds\n"
    (options.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
