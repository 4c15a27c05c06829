"""Stages of one run: what is written down, logged and drawn while the terms change, and what follows to a device."""

import sys

import pytest
import torch
from accelerate import Accelerator

import flowmaps as fm
from flowmaps.method.stages import Stages
from flowmaps.training import accelerating, read_config, read_metrics, train
from flowmaps.training.pictures import jumps_of, learns_jumps
from flowmaps.training.teachers import move_teachers
from flowmaps.velocity import Fixed, fixed
from tests.training.support import GAUSSIAN, QUIET, chasing, data_free, linear_flow, phased, staged


def test_every_row_of_the_metrics_has_the_terms_of_its_stage(tmp_path):
    plan = {**QUIET, "trackers": ("tensorboard",), "progress_bar": True}
    method = staged()
    list(train(linear_flow(), method, GAUSSIAN, steps=10, out=tmp_path / "run", **plan))
    names = [tuple(row["terms"]) for row in read_metrics(tmp_path / "run")]
    assert names == [("diffusion",)] * 3 + [("chase", "helper")] * 3 + [("compositional", "lagrangian")] * 4
    assert int(method.stage) == 2


def test_a_run_is_resumed_with_the_stages_it_was_started_with(tmp_path):
    list(train(linear_flow(), staged(), GAUSSIAN, steps=4, out=tmp_path / "run", **QUIET))
    config = read_config(tmp_path / "run")["method"]
    assert config["name"] == "stages" and config["stages"] == pytest.approx([0.3, 0.6, 1.0])
    methods = list(staged().stages)
    other = Stages(*zip((0.2, 0.4, 0.4), methods, strict=True))
    with pytest.raises(ValueError, match=r"method\.stages\[0\] was 0\.3 and is 0\.2"):
        train(linear_flow(), other, GAUSSIAN, steps=4, out=tmp_path / "run", resume=True, **QUIET)


@pytest.mark.parametrize(("method", "expected"), [(staged, True), (phased, False)])
def test_processes_expect_weights_that_the_loss_of_a_stage_leaves_out(method, expected, monkeypatch):
    made = []

    class Recording(Accelerator):
        def __init__(self, **options):
            super().__init__(**options)
            made.append(self.ddp_handler.find_unused_parameters)

    monkeypatch.setattr(accelerating, "Accelerator", Recording)
    next(train(linear_flow(), method(), GAUSSIAN, steps=1, **QUIET))
    assert made == [expected]


def test_pictures_are_jumps_where_any_stage_learns_them():
    flow = linear_flow()
    assert not learns_jumps(flow, fm.methods.flow_matching())
    assert not learns_jumps(flow, Stages((1.0, fm.methods.flow_matching()), (1.0, fm.methods.flow_matching())))
    assert learns_jumps(flow, Stages((1.0, fm.methods.flow_matching()), (1.0, fm.methods.psd())))
    for limits in ({"only_target": 0.0}, {"only_source": 1.0}):
        assert learns_jumps(linear_flow(**limits), fm.methods.flow_matching())


def test_pictures_take_the_jumps_that_the_last_stage_is_made_for():
    assert [jumps_of(method) for method in (fm.methods.fmm(), fm.methods.imf(), data_free())] == [8, 1, 1]
    assert jumps_of(Stages((1.0, fm.methods.flow_matching()), (1.0, fm.methods.fmm()))) == 8
    assert jumps_of(Stages((1.0, fm.methods.fmm()), (1.0, fm.methods.imf()))) == 1


@pytest.mark.parametrize("limits", [{"only_target": 0.0}, {"only_source": 1.0}])
def test_pictures_of_partial_maps_are_one_jump(limits, tmp_path):
    def learn(flow, teacher, x, s, t):
        return flow(x, s, t) - 1

    times = fm.times.to_data(fm.times.uniform_triangle()) if "only_target" in limits else None
    method = data_free() if times is None else fm.Method(fm.Term(learn, fixed(GAUSSIAN), times=times))
    flow = linear_flow(**limits)
    list(train(flow, method, GAUSSIAN, steps=2, out=tmp_path / "run", **{**QUIET, "sample_every": 1}))
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 2


def test_teachers_of_all_stages_phases_and_sources_move():
    teachers = [linear_flow(seed) for seed in range(4)]
    first = fm.Method(fm.Term(fm.consistency.compositional, fm.velocity.Phased(fixed(teachers[0]), 2)))
    second = fm.Method(fm.Term(fm.consistency.eulerian, Fixed(teachers[1]), sources={"along": fixed(teachers[2])}))
    method = Stages((1, first), (1, second), (1, chasing(start=teachers[3])), (1, phased()))
    move_teachers(method, torch.device("meta"))
    assert all(weight.device.type == "meta" for teacher in teachers for weight in teacher.parameters())


def test_couplings_by_another_teacher_are_another_run(tmp_path):
    def data(mean):
        teacher = fm.exact.Gaussian(torch.tensor(mean), torch.ones(2))
        return fm.data.reflow(teacher, teacher, 50, steps=2)

    run = {"steps": 2, "out": tmp_path / "run", **QUIET}
    list(train(linear_flow(), fm.methods.meanflow(), data([0.0, 1.0]), **run))
    about = read_config(tmp_path / "run")["data"]["coupling"]
    assert about["teacher"] == "exact.Gaussian" and about["step"] == "steps.heun"
    assert not list(train(linear_flow(), fm.methods.meanflow(), data([0.0, 1.0]), resume=True, **run))
    with pytest.raises(ValueError, match=r"data\.coupling\.signature was .* and is"):
        train(linear_flow(), fm.methods.meanflow(), data([1.0, 0.0]), resume=True, **run)


def test_without_the_package_of_figures_training_goes_on_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.warns(UserWarning, match="no pictures of samples are drawn: figures need matplotlib: pip install"):
        *_, state = train(
            linear_flow(), fm.methods.imf(), GAUSSIAN, steps=2, out=tmp_path / "run",
            **{**QUIET, "sample_every": 1},
        )  # fmt: skip
    assert state.step == 2
