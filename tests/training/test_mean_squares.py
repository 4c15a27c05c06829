"""Metrics have the mean square of each residual before any weight, smoothed, beside the weighted loss."""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.consistency import lagrangian
from flowmaps.data import as_data
from flowmaps.method.term import Term
from flowmaps.networks import MLP
from flowmaps.training import read_metrics, train
from flowmaps.training.mean_squares import MeanSquares
from flowmaps.velocity import own
from flowmaps.weight import adaptive, cauchy, huber, learned, normalised, plain, squared, summed

QUIET = {"progress_bar": False}


def run(method, folder, data="eight_gaussians", **settings):
    torch.manual_seed(0)
    flow = fm.FlowMap(MLP(2, width=16, depth=2))
    return [
        (state.step, {name: term.residual.double().square().mean() for name, term in state.loss.terms.items()})
        for state in train(flow, method, as_data(data), batch_size=64, out=folder, **QUIET, **settings)
    ]


WEIGHTS = (squared, summed, adaptive(), normalised(), huber(), cauchy(), learned())


@pytest.mark.parametrize("weight", WEIGHTS, ids=lambda weight: getattr(weight, "__qualname__", "learned"))
def test_a_row_has_the_mean_square_of_every_weight(weight, tmp_path):
    steps = run(fm.Method(Term(lagrangian, own, weight=weight)), tmp_path / "run", steps=8, log_every=4)
    known = {step: float(squares["lagrangian"]) for step, squares in steps}
    rows = {row["step"]: row for row in read_metrics(tmp_path / "run")}
    assert list(rows) == [1, 4, 8]
    for step, row in rows.items():
        average = sum(known[k] for k in range(max(1, step - 3), step + 1)) / min(step, 4)
        assert row["mean_squares"] == {"lagrangian": pytest.approx(average, rel=1e-5)}
        assert row["progress"] == step / 8


def test_the_loss_of_an_adaptive_weight_stays_while_the_mean_square_falls(tmp_path):
    """One point as data: the velocity is a function of the state, so the residual can vanish."""
    point = torch.full((256, 2), 0.5)
    run(fm.methods.imf(), tmp_path / "run", point, steps=50, log_every=10, lr=3e-3)
    first, *_, last = read_metrics(tmp_path / "run")
    assert last["loss"] > 0.8 * first["loss"]
    squares = [sum(row["mean_squares"].values()) for row in (first, last)]
    assert squares[1] < 0.5 * squares[0]


def test_between_two_rows_ten_steps_are_read():
    squares = MeanSquares(1000)
    for step in range(1, 1001):
        squares.add(step, loss_of(torch.full((4, 2), float(step % 100 == 0))))
    assert squares.read() == {"r": 1.0}


def test_distances_and_losses_have_no_mean_square(tmp_path):
    """Their squares have no meaning: of critics, of perceptual distances, of a residual without a weight."""
    far = lambda flow, teacher, x, s, t: (x - flow(x, s, t)).square().mean(1, keepdim=True)  # noqa: E731
    method = fm.Method(Term(lagrangian, own), Term(far, own, share=0.5, weight=plain, name="far"))
    run(method, tmp_path / "run", steps=2)
    assert [set(row["mean_squares"]) for row in read_metrics(tmp_path / "run")] == [{"lagrangian"}] * 2
    assert [set(row["terms"]) for row in read_metrics(tmp_path / "run")] == [{"lagrangian", "far"}] * 2


def test_an_infinite_mean_square_of_a_finite_loss_is_written_as_null(tmp_path):
    squares = MeanSquares(1)
    squares.add(1, loss_of(torch.full((4, 2), 1e30)))
    assert squares.read() == {"r": None}


def loss_of(residual):
    zero = torch.zeros(())
    return fm.Loss(zero, {"r": fm.method.term.TermLoss(zero, residual, residual[:, 0], residual[:, 0])})


def test_half_precision_is_averaged_in_float32():
    squares = MeanSquares(1)
    squares.add(1, loss_of(torch.full((4, 2), 300.0, dtype=torch.float16)))
    assert squares.read() == {"r": 90000.0}


def test_trackers_and_the_progress_line_have_it(tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    torch.manual_seed(0)
    flow = fm.FlowMap(MLP(2, width=16, depth=2))
    settings = {"steps": 3, "batch_size": 64, "out": tmp_path / "run", "trackers": ("tensorboard",)}
    for _ in train(flow, fm.methods.imf(), as_data("eight_gaussians"), **settings):
        pass
    assert "  mean square" in capsys.readouterr().err
    folder = next((tmp_path / "run" / "tensorboard").rglob("events*")).parent
    tags = EventAccumulator(str(folder)).Reload().Tags()["scalars"]
    assert "progress" in tags and {f"mean_squares/{name}" for name in flow_terms()} <= set(tags)


def flow_terms():
    return [term.name for term in fm.methods.imf().terms]


def test_networks_are_not_called_again(tmp_path):
    calls = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)

        def forward(self, x, s, t):
            calls.append(len(x))
            return self.linear(x)

    counts = []
    for every in (1, 1000):
        calls.clear()
        for _ in train(fm.FlowMap(Counting()), fm.methods.lsd(), as_data("eight_gaussians"), steps=4, batch_size=8,
                       log_every=every, out=tmp_path / str(every), **QUIET):  # fmt: skip
            pass
        counts.append(len(calls))
    assert counts[0] == counts[1] > 0
