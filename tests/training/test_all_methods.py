"""Every method of the landscape stops in the middle of a run and goes on, bit for bit."""

import itertools

import pytest
import torch

import flowmaps as fm
from flowmaps.methods import LANDSCAPE
from flowmaps.training import read_metrics, train
from flowmaps.training.teachers import move_teachers
from tests.training.support import QUIET

ROWS = {row.name: row for row in LANDSCAPE}
DATA = fm.data.load("mixture")


def start(name):
    """A flow map that the method suits, on the path that it needs, and the method."""
    row = ROWS[name]
    path = fm.path.trigonometric if name in ("sct", "scd") else fm.path.linear
    torch.manual_seed(2)
    teacher = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1), path=path)
    flow = fm.FlowMap(
        fm.networks.MLP(2, width=8, depth=1), path=path, only_source=row.only_source, only_target=row.only_target
    )
    for weight in (*teacher.parameters(), *flow.parameters()):
        torch.nn.init.normal_(weight, std=0.2)
    return flow, row.build(**({"teacher": teacher} if row.needs_teacher else {}))


@pytest.mark.parametrize("name", ROWS)
def test_it_resumes_exactly(name, tmp_path):
    whole, halves, again = (start(name) for _ in range(3))
    *_, state = train(*whole, DATA, steps=6, **QUIET)
    list(itertools.islice(train(*halves, DATA, steps=6, out=tmp_path / "run", **QUIET), 3))
    *_, resumed = train(*again, DATA, steps=6, out=tmp_path / "run", resume=True, **QUIET)
    for one, other in ((whole[0], again[0]), (whole[1], again[1]), (state.ema, resumed.ema)):
        ours, theirs = one.state_dict(), other.state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", [row.name for row in LANDSCAPE if row.needs_teacher])
def test_its_teacher_moves_to_the_device(name):
    teacher = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    move_teachers(ROWS[name].build(teacher=teacher), torch.device("meta"))
    assert all(weight.device.type == "meta" for weight in teacher.parameters())
