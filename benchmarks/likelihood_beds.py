"""Log-densities of a law in the plane that is known: errors of every estimator at 1, 4 and 16 calls of the network.

Rows of the exact velocity show the error of the estimator alone; rows of a trained map, its training too.

    python -m benchmarks.likelihood_beds
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from flowmaps.figures.style import SHADES, figure, light

from .landscape_tables import save
from .tables import machine, markdown

L = fm.likelihood
LAW = fm.exact.GaussianMixture([0.5, 0.3, 0.2], [[-1.5, 0.5], [1.2, 1.0], [0.3, -1.4]], [0.4, 0.3, 0.5])
CALLS, ROWS, TRAINED, BATCH = (1, 4, 16), 4096, 3000, 256
RULES: dict[str, tuple[str, Any, int]] = {
    "euler": ("`ode(solver=grid(n, euler))`", L.euler, 1),
    "heun": ("`ode(solver=grid(n/2, heun))`", L.heun, 2),
    "rk4": ("`ode(solver=grid(n/4, rk4))`", L.rk4, 4),
}


def train(steps: int) -> fm.FlowMap:
    """A flow map of the law in both directions, distilled from its exact velocity."""
    torch.manual_seed(0)
    flow = fm.FlowMap(fm.networks.ConcatMLP((2,), width=128, depth=3))
    times = fm.times.both_directions(fm.times.uniform_triangle())
    method = fm.methods.lmd(LAW, times=times)
    states = fm.train(flow, method, LAW, steps=steps, batch_size=BATCH, lr=3e-3, ema=0.995, progress_bar=False)
    return deque(states, maxlen=1)[0].ema


def estimators(calls: int) -> dict[str, Callable[[], Any]]:
    """Estimators of this number of calls for each row, by name."""
    found: dict[str, Callable[[], Any]] = {}
    for name, (_, rule, each) in RULES.items():
        if calls >= each:
            found[name] = lambda rule=rule, each=each: L.ode(L.exact(1), L.grid(calls // each, rule))
    found["hutchinson"] = lambda: L.ode(L.hutchinson(1), L.grid(calls // 2, L.heun))
    found["differences"] = lambda: L.ode(L.differences(1), L.grid(calls // 2, L.heun))
    if calls == 1:
        del found["hutchinson"], found["differences"]
    if calls > 1:  # one Euler step from data, x + v(x, 0) = 0, is flat
        found["jumps-euler"] = lambda: L.jumps(calls, step="euler", chunk=1)
        found["jumps-heun"] = lambda: L.jumps(calls // 2, step="heun", chunk=1)
        found["bound"] = lambda: L.bound(calls)
    return found


def error(flow: Any, by: Any, x: Tensor) -> dict[str, float]:
    """Mean and median of |log p - exact|, and the share of rows where space is folded."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of folds, which are counted here
        found = L.log_prob(flow, x, by=by)
    folded = torch.zeros(len(x)).bool() if found.folded is None else found.folded > 0
    size = (found.value.double() - LAW.log_prob(x.double()))[~folded].abs()
    return {"mean": float(size.mean()), "median": median(size.tolist()), "folded": float(folded.double().mean())}


def weights(flow: Any, steps: int, step: str) -> dict[str, float]:
    """Mean weight p/p_N with its standard error, and effective share of samples."""
    z = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(1))
    x, log_p = L.sample(flow, z, steps, step=step, chunk=1)
    out = L.importance(log_p.double(), -LAW.log_prob(x.double()))
    each = (LAW.log_prob(x.double()) - log_p.double()).exp().nan_to_num()
    return {"mean": float(each.mean()), "stderr": float(each.std() / ROWS**0.5), "ess": out.ess}


def measure(flow: fm.FlowMap) -> dict[str, Any]:
    """All errors of the exact velocity and of the trained map."""
    x = LAW.sample(ROWS, torch.Generator().manual_seed(0)).double()
    exact = {str(n): {name: error(LAW, make(), x) for name, make in estimators(n).items()} for n in CALLS}
    trained = {str(n): error(flow, L.jumps(n, chunk=1), x.float()) for n in CALLS}
    reference = {"ode": error(LAW, L.ode(L.exact(1)), x), "trained ode": error(flow, L.ode(L.exact(1)), x.float())}
    return {
        "exact": exact, "trained": trained, "reference": reference,
        "weights": {str(n): weights(flow, n, "jump") for n in CALLS},
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """The table of errors."""
    names = {name: label for name, (label, _, _) in RULES.items()} | {
        "hutchinson": "`ode(hutchinson(1), grid(n/2, heun))`", "differences": "`ode(differences(1), grid(n/2, heun))`",
        "jumps-euler": "`jumps(n, step='euler')`", "jumps-heun": "`jumps(n/2, step='heun')`", "bound": "`bound(n)`",
    }  # fmt: skip
    rows = [[label, *(shown(found["exact"][str(n)].get(name)) for n in CALLS)] for name, label in names.items()]
    rows.append(["`jumps(n)` of a trained map", *(shown(found["trained"][str(n)]) for n in CALLS)])
    ode, own = found["reference"]["ode"]["mean"], found["reference"]["trained ode"]["mean"]
    text = f"The usual ODE, 200 calls, has {ode:.1e} with the exact velocity, and {own:.3f} with the trained map's own."
    shares = [f"{found['weights'][str(n)]['ess']:.2f}" for n in CALLS]
    each = [f"{found['weights'][str(n)]['mean']:.3f} ± {found['weights'][str(n)]['stderr']:.3f}" for n in CALLS]
    text += (
        f" The trained map's own samples by {', '.join(map(str, CALLS))} jumps have effective shares of "
        f"{', '.join(shares)}, and mean weights of {', '.join(each)}, where 1 is right."
    )
    return f"{markdown(['by, n calls', *(f'n = {n}' for n in CALLS)], rows)}\n\n{text}"


def shown(one: dict[str, float] | None) -> str:
    """A cell: the mean error, and the share of folded rows."""
    if one is None:
        return ""
    folded = f" ({100 * one['folded']:.1f}% folded)" if one["folded"] else ""
    return f"{one['mean']:.3f}{folded}"


def picture(flow: fm.FlowMap, path: Path) -> None:
    """Draw the density as the law has it, and as few and many calls of the trained map have it."""
    line = torch.linspace(-3, 3, 240)
    points = torch.cartesian_prod(line, line)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        panels = {
            "exact": LAW.log_prob(points.double()),
            "the ODE, 200 calls": L.log_prob(flow, points, by=L.ode(L.exact(1))).value,
            "one jump, 1 call": L.log_prob(flow, points, by=L.jumps(chunk=1)).value,
            "one Euler step, 1 call": L.log_prob(flow, points, by=L.ode(L.exact(1), L.grid(1, L.euler))).value,
        }
    highest = float(panels["exact"].exp().max())
    with figure(light, 12, 3.4, ncols=len(panels)) as (made, axes):
        for axis, (name, value) in zip(axes, panels.items(), strict=True):
            density = value.exp().nan_to_num().reshape(240, 240).T
            axis.imshow(density.numpy(), origin="lower", extent=(-3, 3, -3, 3), vmin=0, vmax=highest, cmap=SHADES)
            axis.set(title=name, xticks=[], yticks=[])
        save(made, path)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/likelihood_beds"))
    parser.add_argument("--steps", type=int, default=TRAINED, help="of training (default: %(default)s)")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    target = options.out / "results.json"
    if not target.exists():
        flow = train(options.steps)
        target.write_text(json.dumps({"machine": machine(), **measure(flow)}, indent=1) + "\n")
        picture(flow, options.out / "density.png")
    found = json.loads(target.read_text())
    text = f"{table(found)}\n\n{found['machine']}; command: python -m benchmarks.likelihood_beds\n"
    (options.out / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
