"""Self-E: its formula, its fixed points in closed form, its cost, the null class that it needs, and runs."""

import json

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.data.transforms import LabelDropout
from flowmaps.experiments import explain, train
from flowmaps.guidance import guided, imf
from flowmaps.methods.landscape import method_of, row_named
from flowmaps.methods.self_evaluation import data_norm, self_evaluation
from tests.methods.test_landscape import Wide, passes
from tests.test_compile import Counting

ROW = row_named("self_e")
MEANS, STD = torch.tensor([1.5, -0.5, 0.3], dtype=torch.float64), 0.6
"""Means of two classes and of the law that stands for no class; all have the same width."""
NULL = {"label": 2}


class Denoiser(nn.Module):
    """The exact denoiser of the class's Gaussian at x_s, for every t, plus a trained shift."""

    def __init__(self, shift):
        super().__init__()
        self.shift = nn.Parameter(torch.as_tensor(shift, dtype=torch.float64))

    def forward(self, x, s, t, label):
        return denoised(x, s[:, None], MEANS[label][:, None]) + self.shift * (s != t)[:, None]


def denoised(x, t, mean):
    """E[x_0 | x_t = x] for x_0 ~ N(mean, STD^2)."""
    return mean + gain(t) * (x - (1 - t) * mean)


def gain(t):
    return (1 - t) * STD**2 / ((1 - t) ** 2 * STD**2 + t**2)


def keep(target, x0):
    return target


def gradient(shift, s, t, n=20_000, **options):
    """Mean gradient of the shift and its standard error, off the diagonal for s > t."""
    torch.manual_seed(0)
    flow = fm.FlowMap(Denoiser(shift), fm.Endpoint(min_time=1e-3))
    label = torch.arange(n) % 2
    x0 = MEANS[label][:, None] + STD * torch.randn(n, 1, dtype=torch.float64)
    method = fm.methods.self_e(null=NULL, normalise=keep, **options)
    residual = method.loss(flow, x0, label, times=(s, t)).terms["self_evaluation"].residual.detach()
    return float(residual.mean()), float(residual.std() / n**0.5), residual


def test_the_diagonal_is_flow_matching_and_off_it_the_fixed_point_is_a_guided_mean():
    """Off the diagonal G = E[x_0 | x_s] + l w (f(c) - f(null)), a number here; four standard errors.

    The exact flow map is none: its D has another slope in x_s than E[x_0 | x_s].
    """
    mean, error, _ = gradient(0.0, 0.6, 0.6)
    assert abs(mean) < 4 * error
    s, t, w = 0.8, 0.3, 2.0
    ratio = s / (1 - s) - t / (1 - t)
    difference = (1 - gain(t) * (1 - t)) * (MEANS[:2] - MEANS[2])  # f(c) - f(null), the same at every state
    assert float(difference.mean()) != 0
    shift = ratio * w * float(difference.mean())  # of both classes together, for one shift has to do for both
    mean, error, _ = gradient(shift, s, t, scale=w)
    assert abs(mean) < 4 * error
    for wrong in (0.0, shift / 2):
        mean, error, _ = gradient(wrong, s, t, scale=w)
        assert abs(mean) > 10 * error
    stds = [((1 - r) ** 2 * STD**2 + r**2) ** 0.5 for r in (s, t)]
    slope = (stds[1] / stds[0] - t / s) / (1 - t / s)  # of D of the exact map of one Gaussian
    assert abs(slope - gain(s)) > 0.05


def test_the_rule_is_its_formula():
    """Written out in plain torch, with the target at the norm of the data; s = 1 has no pole."""
    torch.manual_seed(0)
    label, x0, noise = torch.tensor([0, 1, 0, 2]), torch.randn(4, 1).double(), torch.randn(4, 1).double()
    flow, s, t = fm.FlowMap(Denoiser(0.4), fm.Endpoint()).given(label=label), torch.rand(4, 1).double(), 0.2
    s = 0.3 + 0.6 * s
    pair = fm.velocity.Pair(x0, noise, fm.path.linear, {"label": label})
    x, times = (1 - s) * x0 + s * noise, (s, torch.full_like(s, t))
    n = torch.randn(4, 1).double()
    teacher = fm.velocity.Conditional(pair)
    got = self_evaluation(flow, teacher, x, *times, null=NULL, noise=n, scale=3, normalise=keep)
    G = denoised(x, s, MEANS[label][:, None]) + 0.4
    y, ratio = (1 - t) * G + t * n, s / (1 - s) - t / (1 - t)
    improved = G + 3 * (denoised(y, t, MEANS[label][:, None]) - denoised(y, t, MEANS[2]))
    target = (x0 + ratio * improved) / (1 + ratio)
    assert torch.allclose(got, G - target) and torch.allclose(improved[3], G[3])  # a row without a label
    options = {"null": NULL, "noise": n, "scale": 3, "normalise": data_norm}
    scaled = self_evaluation(flow, teacher, x, *times, **options)
    assert torch.allclose(scaled, G - target.sign() * x0.abs())
    one, t = torch.ones(4, 1).double(), torch.tensor([[0.0], [0.5], [1.0], [0.2]]).double()
    ends = self_evaluation(flow, teacher, noise, one, t, **options)
    assert bool(ends.isfinite().all()) and torch.allclose(ends[2], flow.field(noise, 1.0, 1.0)[2] - x0[2])


class Labelled(Wide):
    """The wide network of the counts, which takes a label and does not use it."""

    def forward(self, x, s, t, label):
        return super().forward(x, s, t)


def test_costs_are_what_is_counted():
    """Network 1, backward 2, the denoiser with and without the condition 2."""
    flow, method = fm.FlowMap(Labelled(), fm.Endpoint()), ROW.build(null=NULL)
    found = passes(method, flow.given(label=torch.zeros(32, dtype=torch.int64)))
    assert found == pytest.approx(ROW.cost, abs=0.06) and ROW.cost == ROW.shared == 5


def test_it_refuses_data_without_labels_and_guidance(tmp_path):
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1, classes=2))
    with pytest.raises(ValueError, match="replaces the condition 'label' by its null value, but 'label' is missing"):
        fm.methods.self_e(null=NULL).loss(flow, torch.randn(8, 2))
    with pytest.raises(ValueError, match="`null` is empty"):
        fm.methods.self_e(null={})
    with pytest.raises(TypeError, match="null conditions by name"):
        fm.methods.self_e(null=2)
    with pytest.raises(ValueError, match=r"pass fm.methods.self_e\(null="):
        method_of("self_e")
    with pytest.raises(ValueError, match="compares with a null class, so it needs data with class labels"):
        train("checkerboard", method="self_e", out=tmp_path / "a")
    labelled = fm.data.as_data((torch.randn(20, 2), torch.arange(20) % 2))
    with pytest.raises(ValueError, match="which rows without a label teach"):
        train(labelled, method="self_e", label_dropout=0.0, out=tmp_path / "a")
    with pytest.warns(UserWarning, match="null"):
        next(iter(fm.train(flow, fm.methods.self_e(null=NULL), labelled, steps=1, batch_size=8, progress_bar=False)))
    with pytest.raises(ValueError, match="no velocity|no effect"):
        guided(fm.methods.self_e(null=NULL), imf(null=NULL))


def test_a_row_says_what_its_function_does():
    method = ROW.build(null=NULL)
    assert ROW.null and not ROW.needs_teacher and method.name == ROW.name and not method.data_free
    assert ROW.paper.title in ROW.bibtex and json.dumps(ROW.as_dict()) and json.dumps(explain("self_e").as_dict())
    s, t = method.terms[0].times(100, 0.0, torch.zeros(1))
    assert int((s == t).sum()) == 50


def test_an_experiment_adds_a_null_class_of_its_own(tmp_path):
    """The null class comes after the others, and a tenth of the rows have it."""
    small = {"steps": 3, "width": 8, "depth": 1, "batch_size": 16, "sample_every": 0, "progress_bar": False}
    data = fm.data.as_data((torch.randn(60, 2), torch.arange(60) % 3))
    flow = train(data, method="self_e", out=tmp_path / "a", **small).flow
    assert flow.trained.dropped == ("label",)
    x = fm.sample(flow.given(label=torch.tensor([1, 2])), torch.randn(2, 2), steps=1)
    assert x.shape == (2, 2) and bool(x.isfinite().all())
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    assert '"null": {"label": 3}' in json.dumps(config["method"]) and LabelDropout.__name__ in json.dumps(config)


@pytest.mark.slow
def test_its_loss_is_one_graph():
    torch.manual_seed(0)
    flow, method = fm.FlowMap(fm.networks.MLP(2, 8, 1, classes=2)), fm.methods.self_e(null=NULL)
    drawn = method.draw(flow, torch.randn(8, 2), torch.arange(8) % 2)
    backend = Counting()
    compiled = torch.compile(fm.method.measure, backend=backend, fullgraph=True)
    got, expected = (f(flow, method.now(0.0), drawn).value for f in (compiled, fm.method.measure))
    assert backend.graphs == 1 and torch.allclose(got, expected)
