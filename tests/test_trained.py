"""A flow map knows the jumps and conditions that it was trained for, and says so where it is asked for others."""

import json
import re
import warnings

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.data import transforms
from flowmaps.trained import TrainedSpec, trained_on

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 64, "steps": 2}


class Swirl(nn.Module):
    """A network with weights whose exact velocity is a rotation, and whose jumps are far from it."""

    def __init__(self):
        super().__init__()
        self.turn = nn.Parameter(torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64))

    def forward(self, x, s, t, label=None):
        return x @ self.turn + (10 * (t - s))[:, None]


def swirl(**known):
    flow = fm.FlowMap(Swirl()).eval()
    flow.trained = TrainedSpec(**known)
    return flow


def points(seed=0):
    return torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def learned(method, data="checkerboard", **settings):
    """The record of a run of two steps."""
    data = fm.data.load(data, labels=True) if data == "two_moons" else fm.data.as_data(data)
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=data.classes))
    return fm.fit(flow, method, data, **QUIET, **settings).flow


def said(call):
    """The warnings of a call."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(one.message) for one in found]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (fm.methods.flow_matching, {"down": False, "velocity": True}),
        (fm.methods.lsd, {"down": True, "up": False, "velocity": True}),
        (fm.methods.ect, {"target": 0.0, "velocity": False}),
        (fm.methods.fmm, {"down": True, "up": True}),
        (lambda: fm.methods.imf(times=fm.times.from_noise(fm.times.uniform_triangle())), {"source": 1.0}),
        (lambda: fm.methods.lsd(times=fm.times.both_directions(fm.times.gap())), {"up": True, "down": True}),
        (lambda: fm.Stages((0.5, fm.methods.flow_matching()), (0.5, fm.methods.lsd())), {"down": True, "up": False}),
    ],
)
def test_training_records_its_jumps(method, expected):
    flow = learned(method())
    assert {name: getattr(flow.trained, name) for name in expected} == expected
    assert flow.trained.shape == (2,)


def test_the_record_leaves_random_numbers_and_the_loss_alone():
    """The record draws times, and the numbers of training are the same as by hand."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    loop = fm.train(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)), fm.methods.lsd(), "checkerboard", **QUIET)
    after = torch.get_rng_state()
    torch.manual_seed(3)
    fm.networks.MLP(2, width=8, depth=1)
    assert not torch.equal(before, after) and torch.equal(torch.get_rng_state(), after)
    loop.close()


def test_an_inversion_falls_back_to_the_velocity_with_a_word():
    """Jumps upwards were never trained: the default inverts exactly, where the jump is far off."""
    flow, x = swirl(), points()
    with pytest.warns(UserWarning, match=r"inverted along its velocity, by steps\.heun \(steps=64\).*both_directions"):
        noise = fm.invert(flow, x)
    torch.testing.assert_close(noise, x @ torch.linalg.matrix_exp(flow.network.turn.detach()), rtol=1e-3, atol=1e-3)
    assert not said(lambda: fm.invert(flow, x))  # once
    with pytest.warns(UserWarning, match="from noise to data, t < s.*from s = 0 to t = 1"):
        assert (fm.invert(flow, x, step="jump") - noise).abs().max() > 1
    with pytest.warns(UserWarning, match=r"steps=3"):
        assert torch.equal(fm.invert(swirl(), x, 3), fm.invert(flow, x, 3, step=fm.steps.heun))


def test_a_map_of_both_directions_is_inverted_by_jumps():
    flow, x = swirl(up=True), points()
    assert not said(lambda: torch.testing.assert_close(fm.invert(flow, x), flow(x, 0.0, 1.0)))


def test_a_map_without_trained_velocity_cannot_be_inverted():
    with pytest.raises(ValueError, match="cannot be inverted, because its velocity is untrained too"):
        fm.invert(swirl(velocity=False, target=0.0), points())


def test_interpolation_ends_at_the_data_although_jumps_are_untrained():
    flow, a, b = swirl(down=False), points(0), points(1)
    with pytest.warns(UserWarning, match="inverted along its velocity"):
        between = fm.interpolate(flow, a, b, n=3)
    torch.testing.assert_close(between[0], a, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(between[-1], b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("known", "call", "match"),
    [
        ({}, lambda flow, x: flow(x, 0.2, 0.9), "from s = 0.2 to t = 0.9, which is untrained"),
        ({}, lambda flow, x: flow.average_velocity(x, 0.2, 0.9), "from s = 0.2 to t = 0.9"),
        ({}, lambda flow, x: flow(x, torch.tensor(0.2), 0.9), "from s = 0.2 to t = 0.9"),
        ({}, lambda flow, x: flow(x, torch.linspace(0.1, 0.5, 5), torch.full((5, 1), 0.4)), "from s = 0.1 to t = 0.4"),
        ({}, lambda flow, x: flow.given(label=None)(x, 0.2, 0.9), "from s = 0.2 to t = 0.9"),
        ({}, lambda flow, x: flow.train()(x, 0.2, 0.9), "from s = 0.2 to t = 0.9"),
        ({"down": False}, lambda flow, x: fm.sample(flow, x), "on the diagonal t = s alone.*step=fm.steps.heun"),
        ({"target": 0.0}, lambda flow, x: fm.sample(flow, x, 2), "the target time 0.*step=fm.steps.restart"),
        ({"source": 1.0}, lambda flow, x: fm.sample(flow, x, 2), "the source time 1.*steps=1"),
        ({"velocity": False}, lambda flow, x: fm.sample(flow, x, 2, step="euler"), "its velocity is untrained"),
        ({"velocity": False}, lambda flow, x: flow.denoise(x, 0.5), "its velocity is untrained"),
        ({"conditions": ("label",)}, lambda flow, x: fm.sample(flow, x), "the condition 'label' in every row"),
        ({"conditions": ("text",)}, lambda flow, x: flow.velocity(x, 0.5), "'text' in every row.*flow.given"),
        ({"conditions": ("label",)}, lambda flow, x: flow.given(label=None)(x, 1.0, 0.0), "'label' in every row"),
        ({}, lambda flow, x: fm.sample(flow, x, condition=torch.zeros(5)), "without the condition 'label'"),
    ],
)
def test_calls_that_were_never_trained_warn_once(known, call, match):
    flow = swirl(**known)
    with pytest.warns(UserWarning, match=match):
        call(flow, points())
    assert not said(lambda: call(flow, points()))


@pytest.mark.parametrize(
    ("known", "call"),
    [
        ({}, lambda flow, x: fm.sample(flow, x, 3)),
        ({}, lambda flow, x: flow(x, torch.rand(5) / 2 + 0.5, torch.rand(5) / 2)),
        ({}, lambda flow, x: fm.sample(flow, x, 3, step="heun")),
        ({"target": 0.0, "velocity": False}, lambda flow, x: fm.sample(flow, x, 3, step="restart")),
        ({"source": 1.0, "velocity": False}, lambda flow, x: fm.sample(flow, x)),
        ({"conditions": ("label",)}, lambda flow, x: fm.sample(flow, x, condition=torch.zeros(5))),
        ({"conditions": ("label",), "dropped": ("label",)}, lambda flow, x: fm.sample(flow, x)),
        ({"conditions": ("guidance",)}, lambda flow, x: fm.sample(flow, x)),
    ],
)
def test_calls_that_were_trained_are_silent(known, call):
    assert not said(lambda: call(swirl(**known), points()))


@pytest.mark.parametrize("dropout", [False, True])
def test_label_dropout_trains_the_map_without_a_label(dropout):
    data = fm.data.load("two_moons", labels=True)
    if dropout:
        data = transforms.transformed(data, transforms.LabelDropout(0.2, data.classes))
    flow = learned(fm.methods.lsd(), data)
    assert flow.trained.conditions == ("label",) and flow.trained.dropped == (("label",) if dropout else ())
    found = said(lambda: fm.sample(flow, fm.noise(flow, 4)))
    assert [] == found if dropout else "'label' in every row" in found[0]


def test_classes_that_training_left_out_are_untrained():
    flow = learned(fm.methods.lsd(), "two_moons", labels=False)
    assert flow.trained.conditions == ()
    label = torch.ones(4, dtype=torch.long)
    assert "without the condition 'label'" in said(lambda: fm.sample(flow, fm.noise(flow, 4), condition=label))[0]


LABEL, NULL = torch.tensor([0, 1, 2, 0, 1]), {"label": 3}


def classed(dropped=(), **known):
    return swirl(conditions=("label",), dropped=dropped, classes=3, **known)


def guided_by(make):
    """A call that samples a map guided by `make(flow)`."""
    return lambda flow: fm.sample(make(flow), points(), 2, step="euler", condition=LABEL)


GUIDED = {
    "classifier_free": guided_by(lambda flow: fm.guidance.classifier_free(flow, 2.0, null=NULL)),
    "tensor": guided_by(lambda flow: fm.guidance.classifier_free(flow, 2.0, null={"label": torch.tensor([3])})),
    "by rows": lambda flow: (
        fm.guidance.classifier_free(flow, null=NULL).given(label=LABEL, guidance=2.0).velocity(points(), 0.5)
    ),
    "interval": guided_by(lambda flow: fm.guidance.classifier_free(flow, 2.0, null=NULL, interval=(0.9, 1.0))),
    "model_guidance": guided_by(lambda flow: fm.guidance.model_guidance(classed(), flow, 1.0, null=NULL)),
    "as a teacher": lambda flow: fm.methods.pid(teacher=fm.guidance.classifier_free(flow, 2.0, null=NULL)).loss(
        fm.FlowMap(Swirl()), points(), LABEL
    ),
    "mixture": lambda flow: fm.guidance.mixture({flow.given(label=1): 2.0, flow.given(label=3): -1.0}).velocity(
        points(), 0.5
    ),
    "a plain call": lambda flow: fm.sample(flow, points(), condition=torch.full((5,), 3)),
}


@pytest.mark.parametrize("name", GUIDED)
def test_guidance_by_an_untrained_null_class_warns_once(name):
    """Without label dropout no row had the null class, so the network's answer to it is its initial weights."""
    found = said(lambda flow=classed(): [GUIDED[name](flow), GUIDED[name](flow)])
    assert len(found) == 1 and "untrained" in found[0] and "LabelDropout(0.1, 3)" in found[0], found
    assert said(lambda: GUIDED[name](classed(dropped=("label",)))) == []
    unknown = swirl()
    unknown.trained = None
    assert said(lambda: GUIDED[name](unknown)) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda flow: fm.guidance.classifier_free(flow, 1.0, null=NULL),
        lambda flow: fm.guidance.classifier_free(flow, 3.0, null={"label": 1}),  # away from a class of training
        lambda flow: fm.guidance.classifier_free(flow, 3.0, null=NULL, interval=(0.0, 0.1)),  # acts at no step
        lambda flow: fm.guidance.autoguidance(flow, flow, 2.0),
        lambda flow: fm.guidance.mixture({flow.given(label=1): 2.0, flow.given(label=0): -1.0}),
    ],
)
def test_guidance_that_asks_for_trained_conditions_is_silent(make):
    assert said(lambda: guided_by(make)(classed())) == []


def test_a_null_text_without_text_dropout_warns():
    class Worded(Swirl):
        def forward(self, x, s, t, text):
            return super().forward(x, s, t) + text

    for dropped in ((), ("text",)):
        flow = fm.FlowMap(Worded()).eval()
        flow.trained = TrainedSpec(conditions=("text",), dropped=dropped)
        guided = fm.guidance.classifier_free(flow, 2.0, null={"text": torch.zeros(1, 2)})
        found = said(lambda guided=guided: guided.given(text=torch.ones(5, 2)).velocity(points(), 0.5))
        assert found == [] if dropped else "TextDropout" in found[0] and len(found) == 1


class Scaled(nn.Module):
    """A network that is conditioned on the scale of guidance."""

    def __init__(self, network):
        super().__init__()
        self.network, self.weight = network, nn.Parameter(torch.zeros(()))

    def forward(self, x, s, t, label=None, guidance=None):
        factor = 1.0 if guidance is None else (1 + self.weight * guidance)[:, None]
        return self.network(x, s, t, label) * factor


ROW_SCALES = ("imf", "tvm", "lsd")


@pytest.mark.parametrize("name", ["meanflow", "soflow", *ROW_SCALES])
@pytest.mark.parametrize("dropout", [False, True])
def test_training_towards_guidance_needs_label_dropout(name, dropout):
    """A guided target compares with the network's own null class, which training teaches by label dropout alone."""
    data = fm.data.load("two_moons", labels=True)
    changes = [transforms.LabelDropout(0.2, 2)] * dropout
    if name in ROW_SCALES:
        changes.append(transforms.GuidanceScales(1.0, 3.0))
    source = getattr(fm.guidance, name)(null={"label": 2})
    method = fm.guidance.guided(getattr(fm.methods, name)(), source)
    flow = fm.FlowMap(Scaled(fm.networks.MLP(2, width=8, depth=1, classes=2)))
    data = transforms.transformed(data, *changes) if changes else data
    found = said(lambda: fm.fit(flow, method, data, **QUIET))
    found = [one for one in found if "null value" in one]
    assert [] == found if dropout else len(found) == 1 and "LabelDropout(0.1, 2)" in found[0]


@pytest.mark.parametrize("name", ["lsd", "ect", "imf", "tvm", "freeflow", "ctm", "psd", "alphaflow"])
def test_training_itself_does_not_warn(name):
    make, exact = getattr(fm.methods, name), fm.data.load("gaussian").exact
    method = make(teacher=exact) if name in ("freeflow", "ctm") else make()
    assert not [one for one in said(lambda: learned(method, "two_moons")) if "trained" in one]


def test_a_run_keeps_the_record_and_older_runs_have_none(tmp_path):
    flow = learned(fm.methods.lsd(), "two_moons", out=tmp_path / "run")
    again = fm.load(tmp_path / "run")
    assert again.trained == flow.trained and again.trained.conditions == ("label",)
    whole = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=2))
    assert fm.load(tmp_path / "run", whole).trained == flow.trained
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["flow"].pop("trained")["arguments"]["up"] is False
    del config["checksum"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert fm.load(tmp_path / "run").trained is None
    more = fm.train(
        fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, classes=2)), fm.methods.lsd(),
        fm.data.load("two_moons", labels=True), **QUIET, out=tmp_path / "run", resume=True,
    )  # fmt: skip
    assert list(more) == []
    config["flow"]["trained"] = {"type": "path.Linear", "arguments": {}}
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=re.escape("flow.trained must be a TrainedSpec")):
        fm.load(tmp_path / "run")


def test_the_default_step_follows_the_record():
    assert fm.steps.default(swirl(down=False), 4) is fm.steps.euler
    assert fm.steps.default(swirl(target=0.0), 4) is fm.steps.restart
    assert fm.steps.default(swirl(), 4) is fm.steps.default(swirl(target=0.0), 1) is fm.steps.jump


def test_a_record_is_made_of_times():
    s, t = torch.tensor([0.5, 0.6]), torch.tensor([0.1, 0.1])
    assert trained_on([(s, t)], diagonal=False) == TrainedSpec(velocity=False, target=pytest.approx(0.1))
    assert trained_on([], diagonal=True) == TrainedSpec(down=False)
    assert trained_on([(s, s - 0.01)], diagonal=False).velocity


def test_a_denoiser_that_was_trained_as_samples_is_no_velocity(recwarn):
    """Moment matching: ancestral steps are the default, other steps warn, and densities by the ODE are refused."""
    law = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    fm.fit(flow, fm.methods.moment_matching(law), law, steps=2, batch_size=8, progress_bar=False)
    assert flow.trained.ancestral and fm.steps.default(flow, 8) is fm.steps.ancestral
    noise = torch.randn(4, 2)
    recwarn.clear()
    fm.sample(flow, noise, 8, step=fm.steps.ancestral, seed=0)
    assert not recwarn
    with pytest.warns(UserWarning, match="trained as samples for ancestral steps"):
        fm.sample(flow, noise, 8, step=fm.steps.euler)
    with pytest.raises(ValueError, match="its velocity is not the one of the data"):
        fm.likelihood.log_prob(flow, noise)


@pytest.mark.slow
def test_such_a_map_is_drawn_evaluated_and_reported_by_ancestral_steps(tmp_path, recwarn):
    law = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))
    flow, run = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1)), tmp_path / "run"
    data = fm.data.load("checkerboard")
    fm.fit(flow, fm.methods.moment_matching(law), data, steps=2, batch_size=8, progress_bar=False, out=run)
    fm.experiments.evaluate(run, n=64, draws=2)
    fm.experiments.report(run)
    found = json.loads((run / "evaluation.json").read_text())
    assert {row["sampler"] for row in found["rows"]} == {"ancestral"} and not flow.has_ode
    assert "by 8 ancestral steps" in (run / "report.html").read_text()
    assert [str(one.message) for one in recwarn if "trained" in str(one.message)] == []
