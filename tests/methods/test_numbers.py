"""Losses, gradients and training runs equal stored ones: moving and renaming parts changes no number.

The values were written before the package was laid out in floors, by version 0.1.0, in float64.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import flowmaps as fm
from flowmaps.methods import LANDSCAPE
from flowmaps.training import train

HERE = Path(__file__).parent
LOSSES = load_file(HERE / "losses.safetensors")
RUNS = load_file(HERE / "training.safetensors")
ROWS = {row.name: row for row in LANDSCAPE}
STORED = list(dict.fromkeys(name for name, *_ in (key.split("/") for key in sorted(LOSSES)) if name != "guided"))
EXACT = {"rtol": 1e-12, "atol": 1e-12}


class Network(nn.Module):
    """Two smooth layers on everything, in float64."""

    def __init__(self, seed, size=2, width=6):
        super().__init__()
        torch.manual_seed(seed)
        self.inner, self.outer = nn.Linear(size + 4, width).double(), nn.Linear(width, size).double()

    def forward(self, x, s, t, label=None, guidance=None):
        told = [
            (torch.zeros(len(x)).double() if c is None else c.double().expand(len(x)))[:, None]
            for c in (label, guidance)
        ]
        return self.outer(torch.tanh(self.inner(torch.cat([x, s[:, None], t[:, None], *told], 1))))


def check(key, flow, method, condition=None):
    x0 = torch.randn(24, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    for progress in (0.1, 0.9):
        torch.manual_seed(11)
        loss = method.loss(flow, x0, condition, progress=progress)
        weights = [w for w in (*flow.parameters(), *method.parameters()) if w.requires_grad]
        gradients = torch.autograd.grad(loss.value, weights, allow_unused=True)
        flat = [(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, gradients, strict=True)]
        found = {
            "value": loss.value.detach().reshape(1),
            "terms": torch.stack([term.value.detach() for term in loss.terms.values()]),
            "gradient": torch.cat(flat).double(),
        }
        for name, value in found.items():
            torch.testing.assert_close(value, LOSSES[f"{key}/{progress}/{name}"], **EXACT)


@pytest.mark.parametrize("name", STORED)
def test_a_method_has_the_stored_loss_and_gradient(name):
    row = ROWS[name]
    path = fm.path.trigonometric if name in ("sct", "scd") else fm.path.linear
    teacher = fm.FlowMap(Network(1), path=path)
    flow = fm.FlowMap(Network(2), path=path, only_source=row.only_source, only_target=row.only_target)
    check(name, flow, row.build(**({"teacher": teacher} if row.needs_teacher else {})))


GUIDED = {
    "meanflow": (fm.methods.meanflow, {}),
    "dmf": (fm.methods.dmf, {}),
    "soflow": (fm.methods.soflow, {}),
    "imf": (fm.methods.imf, {}),
    "tvm": (fm.methods.tvm, {}),
    "gft": (fm.methods.flow_matching, {"scale": 2.0}),
    "lsd": (fm.methods.lsd, {}),
}


@pytest.mark.parametrize("name", GUIDED)
def test_a_guided_method_has_the_stored_loss_and_gradient(name):
    build, options = GUIDED[name]
    condition = {"label": torch.arange(24) % 4}
    if name in ("imf", "tvm", "lsd"):
        condition["guidance"] = torch.linspace(1, 3, 24).double()
    method = fm.guidance.guided(build(), getattr(fm.guidance, name)(null={"label": 3}, **options))
    check(f"guided/{name}", fm.FlowMap(Network(2)), method, condition)


@pytest.mark.parametrize("name", ["meanflow", "lsd"])
def test_a_training_run_has_the_stored_numbers(name):
    data = torch.randn(500, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    flow, losses = fm.FlowMap(Network(5)), []
    for state in train(flow, getattr(fm.methods, name)(), data, steps=50, batch_size=32, progress_bar=False, seed=4):
        losses.append(state.loss.value.item())
    found = {"losses": torch.tensor(losses, dtype=torch.float64)}
    found |= {f"flow/{key}": value for key, value in state.flow.state_dict().items()}
    found |= {f"ema/{key}": value for key, value in state.ema.state_dict().items()}
    for key, value in found.items():
        torch.testing.assert_close(value, RUNS[f"{name}/{key}"], rtol=1e-10, atol=1e-10)
