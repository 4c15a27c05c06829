"""Section 5 of the post, "The landscape": its table, and the origin of its costs.

    python examples/11_landscape.py

Prints the table from `fm.methods.LANDSCAPE`. Costs are in forward passes: matrix products of the loss and its backward
pass, divided by the matrix products of one forward pass. For two methods the script counts them again. The picture
shows the costs of the post, the costs of this library with every term on the whole batch, and its costs if each term
takes its share of the batch.
"""

from pathlib import Path

import torch
from _pictures import run
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from flowmaps.cli.tables import print_table
from flowmaps.figures.style import figure, light
from flowmaps.methods import LANDSCAPE


def main(out: Path, steps: int = 1) -> dict[str, float]:
    cells = [
        [
            row.name,
            row.rule,
            row.learning,
            row.output,
            str(row.published_cost or ""),
            f"{row.cost:g}",
            f"{row.shared:g}",
        ]
        for row in LANDSCAPE
    ]
    print_table("The landscape", ["method", "rule", "learning", "output", "post's cost", "cost", "in shares"], cells)
    draw(out)
    rows = {row.name: row for row in LANDSCAPE}
    return {"methods": len(LANDSCAPE)} | {
        f"cost of {name}, {source}": number
        for name in ("lsd", "shortcut")
        for source, number in (("in the table", rows[name].cost), ("counted", counted(rows[name].build())))
    }


def counted(method):
    """Matrix products of a loss with all terms on the whole batch and its backward pass, in forward passes."""
    flow = fm.FlowMap(fm.networks.ConcatMLP(16, width=512, depth=8))
    x0 = torch.randn(32, 16)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        flow(x0, 1.0, 0.0)
    with FlopCounterMode(display=False) as whole:
        method.loss(flow, x0, times=(0.7, 0.2)).value.backward()
    return whole.get_total_flops() / forward.get_total_flops()


def draw(out):
    rows = sorted(LANDSCAPE, key=lambda row: ["diffusion", "lagrangian", "eulerian", "compositional"].index(row.rule))
    places = range(len(rows))
    with figure(light, 9, 9.4, out) as (made, axis):
        axis.hlines(places, 0, [row.cost for row in rows], color=light.rule)
        for name, style, costs in (
            ("the post, whole batch", {"marker": "|", "color": light.text, "markersize": 15}, "published_cost"),
            ("here, whole batch", {"marker": "o", "color": light.series[1], "markersize": 10}, "cost"),
            ("here, own shares of the batch", {"marker": "o", "color": light.series[0], "markersize": 5}, "shared"),
        ):
            costs = [float("nan") if getattr(row, costs) is None else getattr(row, costs) for row in rows]
            axis.plot(costs, places, linestyle="", markeredgewidth=2, label=name, **style)
        axis.set_yticks(places, [f"{row.name}  ({row.rule})" for row in rows], fontsize=10)
        axis.invert_yaxis()
        axis.set(title="Cost of a training step, in forward passes", xlim=(0, None))
        made.legend(loc="outside lower center", ncols=3)


if __name__ == "__main__":
    run(main)
