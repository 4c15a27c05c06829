"""A run that was stopped and resumed holds the same numbers, bit for bit, as one that was not."""

import itertools
import json

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.runs import checkpoint
from flowmaps.training import read_metrics, train
from tests.training.support import QUIET, alternating, chasing, phased, slowing_average, staged


class Dropping(nn.Module):
    """A small network with random numbers, a buffer that moves and a label."""

    def __init__(self):
        super().__init__()
        self.linear, self.drop, self.label = nn.Linear(4, 2), nn.Dropout(0.3), nn.Embedding(3, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, s, t, label=None):
        self.calls += 1
        return self.linear(self.drop(torch.cat([x, s[:, None], t[:, None]], 1))) + self.label(label)


def labelled():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(50, 2, generator=generator), torch.randint(3, (50,), generator=generator)


def start(method, dtype=torch.float32):
    torch.manual_seed(1)
    return fm.FlowMap(Dropping().to(dtype)), method()


def learned_weights():
    return fm.methods.imf(weight=fm.weight.learned(16))


METHODS = [fm.methods.shortcut, learned_weights, fm.methods.lsd, fm.methods.flow_matching, chasing, slowing_average]
CUTS = [(method, 6) for method in METHODS]
CUTS += [(phased, cut) for cut in (2, 4, 5, 9, 10, 12)]  # three phases of 14 steps begin after 0, 4.7 and 9.3
CUTS += [(staged, cut) for cut in (2, 4, 5, 8, 9, 10, 11, 13)]  # stages begin after 0, 4.2 and 8.4, phases after 10.3
CUTS += [(alternating, cut) for cut in (3, 4, 6)]  # before, after a step of the flow, and between two of the helper


@pytest.mark.parametrize(("method", "cut"), CUTS)
def test_resume_is_exact(method, cut, tmp_path):
    whole = start(method)
    *_, state = train(*whole, labelled(), steps=14, out=tmp_path / "whole", **QUIET)

    halves = start(method)
    list(itertools.islice(train(*halves, labelled(), steps=14, out=tmp_path / "halves", **QUIET), cut))
    torch.rand(7)  # the caller's own random numbers are no part of a run
    again = start(method)
    *_, resumed = train(*again, labelled(), steps=14, out=tmp_path / "halves", resume=True, **QUIET)

    assert resumed.step == state.step == 14
    for one, other in [(whole[0], again[0]), (whole[1], again[1]), (state.ema, resumed.ema)]:
        assert same(one.state_dict(), other.state_dict())
    paths = [tmp_path / name / "checkpoints" / "step_00000014" for name in ("whole", "halves")]
    optimizers = [checkpoint.read_optimizers(path) for path in paths]
    assert len(optimizers[0]) == 1 + len(whole[1].auxiliaries)
    for a, b in zip(*optimizers, strict=True):
        assert a["param_groups"] == b["param_groups"]
        assert len(a["state"]) > 0 and a["state"].keys() == b["state"].keys()
        assert all(same(a["state"][key], b["state"][key]) for key in a["state"])
    drop = ("steps_per_second", "seconds")
    rows = [
        [{k: v for k, v in row.items() if k not in drop} for row in read_metrics(tmp_path / name)]
        for name in ("whole", "halves")
    ]
    assert rows[0] == rows[1] and [row["step"] for row in rows[0]] == list(range(1, 15))


@pytest.mark.parametrize("method", [learned_weights, chasing, slowing_average, phased, staged])
def test_first_weights_do_not_matter_to_a_resumed_run(method, tmp_path):
    """The ones in the checkpoint replace them, so they are no part of what is compared."""
    list(itertools.islice(train(*start(method), labelled(), steps=6, out=tmp_path / "run", **QUIET), 3))
    torch.manual_seed(9)
    again = fm.FlowMap(Dropping()), method()
    *_, state = train(*again, labelled(), steps=6, out=tmp_path / "run", resume=True, **QUIET)
    *_, whole = train(*start(method), labelled(), steps=6, **QUIET)
    assert same(whole.flow.state_dict(), state.flow.state_dict())


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_metrics_after_the_checkpoint_are_repeated_not_doubled(tmp_path):
    run = train(*start(fm.methods.imf), labelled(), steps=10, out=tmp_path / "run", checkpoint_every=4, **QUIET)
    for _ in itertools.islice(run, 6):
        pass
    run.close()
    last = tmp_path / "run" / "checkpoints" / "step_00000006"
    (last / "flow.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match=r"step_00000006 is damaged: flow\.safetensors .*going back to step_00000004"):
        run = train(*start(fm.methods.imf), labelled(), steps=10, out=tmp_path / "run", resume=True, **QUIET)
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 4]
    *_, state = run
    assert state.step == 10
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == list(range(1, 11))
    *_, whole = train(*start(fm.methods.imf), labelled(), steps=10, **QUIET)
    assert same(whole.ema.state_dict(), state.ema.state_dict())


def test_a_finished_run_has_nothing_left_to_do(tmp_path):
    list(train(*start(fm.methods.imf), labelled(), steps=3, out=tmp_path / "run", **QUIET))
    assert list(train(*start(fm.methods.imf), labelled(), steps=3, out=tmp_path / "run", resume=True, **QUIET)) == []


def test_a_run_without_a_checkpoint_resumes_from_its_start(tmp_path):
    list(train(*start(fm.methods.imf), labelled(), steps=3, out=tmp_path / "run", **QUIET))
    for path in checkpoint.complete(tmp_path / "run" / "checkpoints"):
        path.rename(tmp_path / path.name)
    states = list(train(*start(fm.methods.imf), labelled(), steps=3, out=tmp_path / "run", resume=True, **QUIET))
    assert [state.step for state in states] == [1, 2, 3]


@pytest.mark.parametrize(
    "make", [lambda w: torch.optim.SGD(w, lr=0.1, momentum=0.9), lambda w: torch.optim.RMSprop(w, lr=0.01)]
)
def test_other_optimizers_resume(make, tmp_path):
    plan = {"optimizer": make, "clip": 1.0, "schedule": fm.training.constant, **QUIET}
    *_, whole = train(*start(fm.methods.meanflow, torch.float64), labelled(), steps=8, **plan)
    for _ in itertools.islice(
        train(*start(fm.methods.meanflow, torch.float64), labelled(), steps=8, out=tmp_path / "r", **plan), 3
    ):
        pass
    *_, resumed = train(
        *start(fm.methods.meanflow, torch.float64), labelled(), steps=8, out=tmp_path / "r", resume=True, **plan
    )
    assert same(whole.flow.state_dict(), resumed.flow.state_dict())
    assert whole.flow.network.linear.weight.dtype == torch.float64


def test_another_configuration_is_named(tmp_path):
    list(train(*start(fm.methods.imf), labelled(), steps=2, out=tmp_path / "run", **QUIET))
    with pytest.raises(
        ValueError, match=r"training\.lr was 0\.001 and is 0\.002; training\.seed was 0 and is 4"
    ) as error:
        train(*start(fm.methods.imf), labelled(), steps=2, lr=0.002, seed=4, out=tmp_path / "run", resume=True, **QUIET)
    assert "flow" not in str(error.value).partition("with this one")[2].partition("Use")[0]
    with pytest.raises(ValueError, match=r"method\.name was imf and is lsd"):
        train(*start(fm.methods.lsd), labelled(), steps=2, out=tmp_path / "run", resume=True, **QUIET)
    with pytest.raises(ValueError, match=r"data\.name was .*; and \d+ more\. Use the original arguments"):
        train(*start(fm.methods.lsd), "checkerboard", steps=2, out=tmp_path / "run", resume=True, **QUIET)
    with pytest.raises(ValueError, match=r"share was 0\.5 and is 0\.75"):
        train(
            *start(lambda: fm.methods.imf(diagonal=0.75)),
            labelled(),
            steps=2,
            out=tmp_path / "run",
            resume=True,
            **QUIET,
        )


def test_config_is_json_without_addresses(tmp_path):
    list(train(*start(learned_weights), labelled(), steps=1, out=tmp_path / "run", notes={"why": "test"}, **QUIET))
    text = (tmp_path / "run" / "config.json").read_text()
    config = json.loads(text)
    assert " at 0x" not in text
    assert config["notes"] == {"why": "test"} and config["training"]["labels"] is True
    assert config["data"]["classes"] == 3 and config["method"]["name"] == "imf"
