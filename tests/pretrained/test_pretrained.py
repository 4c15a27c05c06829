"""Teachers: every prediction on every schedule and path against exact mixtures; the ends; the errors."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import path as paths
from flowmaps.pretrained import CLEANEST, Affine
from flowmaps.serialise import build, describe
from flowmaps.training.teachers import teachers
from tests.oracles import PATHS, mixture

SCHEDULES = PATHS | {
    "discrete": paths.Discrete((0.98, 0.83, 0.52, 0.31, 0.12, 0.05, 0.01)),
    "zero_snr": paths.Discrete((0.98, 0.83, 0.52, 0.31, 0.12, 0.05, 0.0)),
}
KINDS = (paths.velocity, paths.noise, paths.data, paths.v_prediction, paths.score)
ENDS_IN_NOISE = ("linear", "trigonometric", "zero_snr")
X = torch.linspace(-2, 2, 12, dtype=torch.float64)[:, None]
T = torch.linspace(0.02, 0.98, 12, dtype=torch.float64)


def exact(kind, schedule, scale=1.0, shift=0.0):
    """A perfect network with this kind of prediction, on its own clock."""
    law = mixture(schedule)

    def predict(x, time):
        u = fm.path.expand((time - shift) / scale, x)
        if kind is paths.velocity:
            return law.velocity(x, u)
        on_data, on_noise = kind(schedule, u)
        if kind is paths.score:
            return law.score(x, u)
        return on_data * law.denoise(x, u) - on_noise * schedule.sigma(u) * law.score(x, u)

    return predict


def made(kind, name, path):
    """The teacher of an exact network; the known times end before a prediction stops determining the data."""
    blind = kind in (paths.noise, paths.score) and name in ENDS_IN_NOISE
    known = (0.0, 0.95 if blind else 1.0)
    predict = exact(kind, SCHEDULES[name], 9.0, -1.0)
    return fm.teacher(predict, kind, SCHEDULES[name], path=path, known=known, time=Affine(9.0, -1.0))


def inside(teacher, t):
    """Mask of the times whose noise level lies in the known times of the network."""
    reading = teacher.reading
    low, high = (torch.tensor(u, dtype=torch.float64) for u in reading.known)
    ratio = reading.path.sigma(t) / reading.path.alpha(t)
    least, most = (reading.schedule.sigma(u) / reading.schedule.alpha(u).abs() for u in (low, high))
    return (ratio >= max(float(least), CLEANEST)) & (ratio <= most)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_prediction_on_every_schedule_is_the_velocity_on_every_path(kind, name):
    for path in SCHEDULES.values():
        teacher, truth = made(kind, name, path), mixture(path)
        known = inside(teacher, T)
        x, t = X[known], T[known]
        assert known.sum() >= 2
        torch.testing.assert_close(teacher.velocity(x, t), truth.velocity(x, t), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(teacher.denoise(x, t), truth.denoise(x, t), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_time_is_a_pole(kind, name):
    """Both ends and the times beside them, on every path, in half precision and in the derivatives in x and t."""
    t = torch.tensor([0.0, 1e-9, 1e-4, 0.5, 0.9999, 1.0])
    for path, dtype in [*((path, torch.float32) for path in SCHEDULES.values()), (paths.linear, torch.bfloat16)]:
        teacher = made(kind, name, path)
        x = X[::2].to(dtype)
        v = teacher.velocity(x, t)
        assert v.dtype == dtype and v.isfinite().all() and v.abs().max() < 400, (path, v)
    assert teacher.denoise(x, t).abs().max() < 10
    v, dv = fm.derivative.jvp(teacher.velocity, (X[::2], t.double()), (1, 1))
    assert dv.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_derivatives_of_both_engines_agree_with_the_truth(kind, name):
    """Also at t = 1 if it is a known time, because one-step methods use it."""
    t = torch.tensor([0.1, 0.33, 0.5, 0.61, 0.75, 1.0], dtype=torch.float64)
    x = X[::2]
    for path in (paths.linear, SCHEDULES["discrete"])[: 2 if kind is paths.v_prediction else 1]:
        teacher, truth = made(kind, name, path), mixture(path)
        dual, torchs = (
            engine(teacher.velocity, (x, t), (torch.cos(x), 1))[1]
            for engine in (fm.derivative.jvp, fm.derivative.functorch)
        )
        torch.testing.assert_close(dual, torchs, rtol=1e-9, atol=1e-9)
        known = inside(teacher, t)
        expected = fm.derivative.jvp(truth.velocity, (x, t), (torch.cos(x), 1))[1]
        torch.testing.assert_close(dual[known], expected[known], rtol=1e-8, atol=1e-8)


def test_past_the_noisy_end_the_data_are_kept_and_past_the_clean_end_the_noise():
    asked = []

    def predict(x, time):
        asked.append((x, time))
        return 0.5 * torch.tanh(x)

    teacher = fm.teacher(predict, paths.data, paths.VarianceExploding(80.0), known=(0.01, 0.5), time=Affine(80.0))
    for t in (0.99, 1.0):  # sigma/alpha beyond 40
        denoised = teacher.denoise(X, t)
        torch.testing.assert_close(asked[-1][0], X * (40.0 / t))
        torch.testing.assert_close(asked[-1][1], torch.full((len(X),), 40.0, dtype=torch.float64))
        torch.testing.assert_close(denoised, 0.5 * torch.tanh(X * 40.0 / t))
        torch.testing.assert_close(teacher.velocity(X, t), (X - denoised) / t)
    for t in (0.0, 0.3):  # sigma/alpha below 0.8
        state = X / (1 - t)
        noise = (state - 0.5 * torch.tanh(state)) / 0.8
        torch.testing.assert_close(teacher.velocity(X, t), (noise - X) / (1 - t))
        torch.testing.assert_close(teacher.denoise(X, t), (X - t * noise) / (1 - t))
        torch.testing.assert_close(asked[-1][0], state)
        torch.testing.assert_close(asked[-1][1], torch.full((len(X),), 0.8, dtype=torch.float64))


@pytest.mark.parametrize("end", [0.8 / 1.8, 40 / 41])
def test_the_reading_has_no_jump_where_the_known_times_end(end):
    options = {"known": (0.01, 0.5), "time": Affine(80.0)}
    teacher = fm.teacher(lambda x, time: torch.tanh(x), paths.data, paths.VarianceExploding(80.0), **options)
    before, after = teacher.velocity(X, end - 1e-9), teacher.velocity(X, end + 1e-9)
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)


def test_a_velocity_on_its_own_path_is_passed_on_as_it_is():
    value, x, t = torch.randn(4, 2), torch.randn(4, 2), torch.rand(4)
    reading = fm.Reading()
    assert reading.velocity(value, x, t) is value
    assert torch.equal(reading.asked(x, t)[0], x) and torch.equal(reading.asked(x, t)[1], t)
    steps = fm.Reading(paths.v_prediction, SCHEDULES["zero_snr"], known=(1 / 7, 1), time=Affine(7, -1))
    state, time = steps.asked(x.bfloat16(), 1.0)
    assert state.dtype == torch.bfloat16 and time.dtype == torch.float32 and time.shape == (4,)
    torch.testing.assert_close(time, torch.full((4,), 6.0))


def test_a_reading_is_an_output_and_can_be_described():
    reading = fm.Reading(paths.noise, SCHEDULES["discrete"], known=(1 / 7, 1), time=Affine(7, -1))
    x, value, s, t = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4, 1), torch.rand(4, 1)
    assert torch.equal(reading(value, x, s, t, paths.linear), reading.velocity(value, x, s))
    assert build(json.loads(json.dumps(describe(reading)))) == reading and hash(reading) == hash(copy.deepcopy(reading))
    flow = fm.FlowMap(fm.networks.MLP(3, width=8, depth=1, embedding=8), reading)
    again = build(describe(flow))
    again.load_state_dict(flow.state_dict())
    assert torch.equal(again(x, 0.9, 0.2), flow(x, 0.9, 0.2))
    with pytest.raises(ValueError, match="converted to the path Linear.*but its flow map is on Trigonometric"):
        reading(value, x, s, t, paths.trigonometric)


NETWORK_ERRORS = [
    (lambda x, time: x[:, :1], r"\(4, 2\), but it returned \(4, 1\)"),
    (lambda x, time: (x, time), "but it returned a tuple"),
]


@pytest.mark.parametrize("predict, message", NETWORK_ERRORS)
def test_answers_of_another_shape_are_refused(predict, message):
    with pytest.raises(ValueError, match=message):
        fm.teacher(predict).velocity(torch.zeros(4, 2), 0.5)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((paths.noise, SCHEDULES["zero_snr"]), ValueError, "zero terminal SNR.*known="),
        ((paths.noise, paths.linear), ValueError, "does not determine the data at the noisy end u = 1"),
        ((paths.score, paths.trigonometric), ValueError, "zero terminal SNR"),
        ((paths.state, paths.linear), ValueError, "a multiple of the state"),
        ((lambda path, u: u, paths.linear), TypeError, r"predicts must be a function.*returned a Tensor"),
        ((lambda path, u: (1.0, u), paths.linear), TypeError, "predicts must be a function"),
        ((paths.velocity, paths.linear, paths.linear, (0.5, 0.2)), ValueError, "0 <= low < high <= 1"),
        ((paths.velocity, paths.linear, paths.linear, (0.0, 1.5)), ValueError, "0 <= low < high <= 1"),
        ((paths.velocity, paths.linear, paths.linear, (0.0, 0.5, 1)), ValueError, "0 <= low < high <= 1"),
    ],
)
def test_readings_that_cannot_be_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        fm.Reading(*arguments)


class Noise(nn.Module):
    """A noise prediction with a condition, dropout and a batch norm, which must not change a teacher."""

    def __init__(self):
        super().__init__()
        self.first, self.drop, self.norm = nn.Linear(3, 8), nn.Dropout(0.5), nn.BatchNorm1d(8)
        self.last, self.labels = nn.Linear(8, 2), nn.Embedding(3, 8)

    def forward(self, x, time, label=None):
        h = self.drop(self.norm(self.first(torch.cat([x, time[:, None] / 7], 1))))
        return self.last(torch.tanh(h if label is None else h + self.labels(label)))


@pytest.fixture
def teacher():
    return fm.teacher(Noise(), paths.noise, SCHEDULES["discrete"], known=(1 / 7, 1), time=Affine(7, -1))


def test_a_teacher_is_frozen_and_stays_so(teacher):
    assert [weight.requires_grad for weight in teacher.parameters()] == [False] * 7
    holder = nn.ModuleList([teacher]).train()
    assert not any(part.training for part in holder[0].modules())
    x = torch.randn(4, 2)
    assert torch.equal(teacher.velocity(x, 0.4), teacher.velocity(x, 0.4))


def test_a_condition_is_passed_on_by_name(teacher):
    x, label = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
    told = teacher.given(label=label)
    assert told.network is teacher.network and teacher.condition == {}
    assert not torch.equal(told.velocity(x, 0.5), teacher.velocity(x, 0.5))
    assert torch.equal(told.velocity(x, 0.5)[:1], told.given(label=label[:1]).velocity(x[:1], 0.5))


@pytest.mark.parametrize("name", ["lmd", "emd", "ayf_emd", "pfmm", "cd"])
def test_methods_take_it_and_leave_it_as_it_is(teacher, name):
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8, classes=3))
    before = copy.deepcopy(teacher.state_dict())
    method = getattr(fm.methods, name)(teacher=teacher)
    assert list(teachers(method))[0] is teacher
    method.loss(flow, torch.randn(6, 2), torch.arange(6) % 3).value.backward()
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    with pytest.raises(ValueError, match="the teacher is on the path Linear"):
        other = fm.FlowMap(flow.network, path=paths.trigonometric)
        method.loss(other, torch.randn(6, 2)).value.backward()


def test_sampling_a_teacher_follows_the_exact_flow_map():
    """The mixture's own flow map on the linear path, from the noise prediction on the steps of a schedule."""
    teacher = fm.teacher(exact(paths.noise, SCHEDULES["discrete"]), paths.noise, SCHEDULES["discrete"])
    start = 0.9
    found = fm.sample(teacher, X, times=torch.linspace(start, 0, 101).tolist(), step=fm.steps.heun)
    torch.testing.assert_close(found, mixture().flow_map(X, start, 0.0), rtol=1e-3, atol=1e-3)
    assert fm.sample(teacher, X, 5, step=fm.steps.euler).isfinite().all()
    assert fm.sample(teacher, X, 5, step=fm.steps.ancestral, seed=0).isfinite().all()


def test_the_page_about_teachers_runs():
    page = (Path(__file__).parents[2] / "docs" / "teachers.md").read_text()
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S):
        exec(block, names)
    assert names["samples"].shape == (16, 2) and names["samples"].isfinite().all()
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8))
    assert names["method"].loss(flow, torch.randn(4, 2)).value.isfinite()
