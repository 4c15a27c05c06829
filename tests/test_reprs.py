"""Objects that a user prints are a line without the numbers of their tensors."""

import pytest
import torch

import flowmaps as fm
from flowmaps.data.transforms import TextDropout
from flowmaps.velocity import Pair

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 32, "steps": 1}


@pytest.fixture(scope="module")
def state():
    return fm.fit(fm.FlowMap(fm.networks.MLP(2, 8, 1)), "lsd", "checkerboard", **QUIET)


def test_a_state_has_its_step_and_its_losses(state):
    assert repr(state).startswith(f"State(step=1, loss=Loss({float(state.loss.value):.4g}, ")
    assert all(f"{name}={float(term.value):.4g}" in repr(state) for name, term in state.loss.terms.items())


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (lambda state: state, "lr="),
        (lambda state: state.loss, "Loss("),
        (lambda state: next(iter(state.loss.terms.values())), "residual=tensor("),
        (lambda state: fm.data.load("digits"), "Data(name='digits', kind='images', shape=(1, 8, 8), size="),
        (lambda state: fm.data.as_data(torch.randn(500, 7)), "shape=(7,)"),
        (lambda state: next(fm.data.load("digits").batches(16)), "x0=tensor(16, 1, 8, 8), label=tensor(16,)"),
        (
            lambda state: Pair(torch.zeros(9, 2), torch.zeros(9, 2), fm.path.linear, {"y": torch.ones(9)}),
            "tensor(9, 2)",
        ),
        (lambda state: TextDropout(0.1, {"text": torch.zeros(1, 77, 64)}), "text: tensor(1, 77, 64)"),
        (lambda state: fm.Rows(0, 2, 8), "Rows(first=0, every=2, total=8"),
        (lambda state: fm.methods.lsd(), "lsd("),
        (lambda state: state.flow.trained, "TrainedSpec("),
    ],
)
def test_reprs_are_short(state, shown, words):
    text = repr(shown(state))
    assert words in text and len(text) < 400 and "tensor([" not in text and " at 0x" not in text and "\n" not in text, (
        text
    )


def test_tensors_without_values_are_written_too():
    loss = fm.method.Loss(torch.zeros((), device="meta"), {})
    assert repr(loss) == "Loss(tensor())"
