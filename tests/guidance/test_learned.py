"""Learned guidance: the residual is zero exactly at the requested scale.

A target is linear in the velocity of the pair, so its mean given x_s is the target at the mean pair.
"""

import json
from dataclasses import replace

import pytest
import torch

import flowmaps as fm
from flowmaps import guidance, methods
from flowmaps.data.transforms import GuidanceScales, LabelDropout, transformed
from flowmaps.guidance.pairs import ConstantShare
from flowmaps.training.teachers import guidance_of
from tests.guidance.support import NULL, Field, Jumps, mean_pair, mean_pair_of_jumps, of_class, rows

X, S, LABEL = rows()
ROW_SCALES = torch.linspace(1.2, 6, len(X), dtype=torch.float64)
START, END = 0.4 * torch.rand(2, len(X), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SCALES = {"guidance": ROW_SCALES}
INTERVALS = {**SCALES, "guidance_from": START, "guidance_to": 1 - END}


def constant(scale, start=0.0, end=1.0):
    return lambda s: 1 + ((s >= start) & (s <= end)).to(s) * (scale - 1)


def fading(s):
    return 1 + guidance.Fading()(s) * (3.0 - 1)


flow_matching = methods.flow_matching
SCHEMES = {
    "meanflow": (flow_matching, guidance.meanflow(2.0, 0.5, null=NULL), constant(2.0), {}),
    "meanflow-xl": (
        flow_matching,
        guidance.meanflow(2.5, 0.92, null=NULL, interval=(0, 0.75)),
        constant(2.5, 0, 0.75),
        {},
    ),
    "dmf": (flow_matching, guidance.dmf(2.5, null=NULL), constant(2.5, 0, 0.7), {}),
    "soflow": (flow_matching, guidance.soflow(3.0, 0.25, null=NULL), fading, {}),
    "imf": (flow_matching, guidance.imf(null=NULL), None, SCALES),
    "imf-intervals": (flow_matching, guidance.imf(null=NULL), None, INTERVALS),
    "tvm": (methods.tvm, guidance.tvm(null=NULL), None, SCALES),
    "tvm-fixed": (methods.tvm, guidance.tvm(scale=2.0, null=NULL), constant(2.0), {}),
    "gft": (flow_matching, guidance.gft(null=NULL), None, SCALES),
}


def diagonal(name, wrong=0.0, pair=None):
    """The residual on the diagonal of a scheme at the exact guided velocity; `wrong` is added to its scale."""
    build, source, scale, condition = SCHEMES[name]
    x0, eps = mean_pair(X, S, LABEL) if pair is None else pair
    flow = fm.FlowMap(Field(scale, wrong))
    loss = guidance.guided(build(), source).loss(flow, x0, {"label": LABEL, **condition}, noise=eps, times=(S, S))
    return loss.terms["diffusion"].residual


@pytest.mark.parametrize("name", SCHEMES)
def test_the_scale_that_is_asked_for_is_the_fixed_point(name):
    """At another scale the residual is (1 - k) times the difference of the scales, times v(c) - v(null)."""
    assert diagonal(name).abs().max() < 1e-12
    _, source, scale, condition = SCHEMES[name]
    w = ROW_SCALES if scale is None else scale(S)  # on the diagonal the interval of a row is all times
    acting = torch.where(w == 1, 0.0, 1.0).double() if name != "soflow" else torch.ones_like(w)
    k = source.share(w, acting)
    gap = of_class("velocity", LABEL, X, S) - of_class("velocity", torch.full_like(LABEL, 3), X, S)
    left = 0.5 * (1 - k)[:, None] * gap / (w[:, None] if source.over_scale else 1)
    torch.testing.assert_close(diagonal(name, wrong=0.5), left, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEMES)
def test_targets_are_linear_in_the_pair(name):
    """So the mean over x_0 given x_s is the target at the mean pair: two points with the same mean and x_s show it."""
    x0, eps = mean_pair(X, S, LABEL)
    moved = [(x0 + h, eps - h * ((1 - S) / S)[:, None]) for h in (0.7, -0.7)]
    above, below = (diagonal(name, 0.3, pair) for pair in moved)
    assert (above - below).abs().max() > 0.1
    torch.testing.assert_close((above + below) / 2, diagonal(name, 0.3), rtol=1e-9, atol=1e-11)


MAPS = {
    "meanflow": (methods.meanflow, guidance.meanflow(2.0, 0.5, null=NULL), Jumps(2.0), {}),
    "dmf": (methods.dmf, guidance.dmf(2.5, null=NULL), Jumps(2.5, (0.0, 0.7)), {}),
    "imf": (methods.imf, guidance.imf(null=NULL), Jumps(), SCALES),
    "imf-intervals": (methods.imf, guidance.imf(null=NULL), Jumps(), INTERVALS),
    "tvm": (methods.tvm, guidance.tvm(null=NULL), Jumps(), SCALES),
    "lsd": (methods.lsd, guidance.lsd(null=NULL), Jumps(), SCALES),
    "lsd-intervals": (methods.lsd, guidance.lsd(null=NULL), Jumps(), INTERVALS),
    "esd": (methods.esd, guidance.lsd(null=NULL), Jumps(), SCALES),
}


@pytest.mark.parametrize("name", MAPS)
def test_the_guided_flow_map_is_the_fixed_point(name):
    """For all terms, off the diagonal too. A map of another scale is no fixed point."""
    build, source, jumps, condition = MAPS[name]
    x0, eps = mean_pair_of_jumps(jumps, X, S, LABEL)
    method = guidance.guided(build(weight=fm.weight.squared), source)
    for wrong in (0.0, 0.5):
        jumps.wrong = wrong
        loss = method.loss(fm.FlowMap(jumps), x0, {"label": LABEL, **condition}, noise=eps, times=(S, 0.4 * S))
        residuals = {rule: term.residual.abs().max() for rule, term in loss.terms.items()}
        jumps.wrong = 0.0
        assert len(residuals) == 2
        for rule, residual in residuals.items():
            assert residual < 1e-9 if wrong == 0 else residual > 1e-2, (rule, residual)


@pytest.mark.parametrize("name", SCHEMES)
def test_null_rows_learn_from_the_pair_alone(name):
    """Exactly, and they get scale 1 and all times, whatever the data have."""
    build, source, scale, condition = SCHEMES[name]
    x0, eps = mean_pair(X, S, LABEL)
    label = torch.where(torch.arange(len(X)) % 2 == 0, 3, LABEL)
    field, null = Field(scale), label == 3
    flow, method = fm.FlowMap(field), guidance.guided(build(), source)
    residual = method.loss(flow, x0, {"label": label, **condition}, noise=eps, times=(S, S)).terms["diffusion"].residual
    [seen, *_] = (call for call in field.calls if len(call["label"]) == len(X) and torch.equal(call["label"], label))
    assert "guidance" not in condition or bool((seen["guidance"][null] == 1).all())
    unguided = flow.given(label=torch.full_like(label, 3), **dict.fromkeys(condition, torch.ones_like(S)))
    left = unguided.velocity(flow.path.interpolate(x0, eps, S), S) - flow.path.velocity(x0, eps, S)
    assert torch.equal(residual[null], left[null])


@pytest.mark.parametrize(("name", "passes"), [("meanflow", 2), ("imf-intervals", 2), ("gft", 1), ("tvm", 1)])
def test_guidance_asks_the_network_on_the_diagonal_without_a_graph(name, passes):
    """Both passes are one call. The unconditional one gets scale 1, and both an interval of all times."""
    _, source, scale, condition = SCHEMES[name]
    network, seen = Seen(), []
    network.record = seen.append
    method = guidance.guided(methods.meanflow(), replace(source, weights=guidance.pairs.online))
    t = 0.4 * S
    method.loss(fm.FlowMap(network), X, {"label": LABEL, **condition}, times=(S, t))
    asked = [call for call in seen if not call["graph"]]
    assert len(asked) == 2  # one for each of the two terms
    for call in asked:
        assert torch.equal(call["s"], call["t"]) and len(call["s"]) == passes * len(X)
        assert bool((call["label"][-len(X) :] == 3).all())
        if condition:
            assert bool((call["guidance"][-len(X) :] == 1).all())
            assert passes == 1 or torch.equal(call["guidance"][: len(X)], ROW_SCALES)
        if name == "imf-intervals":
            assert not call["guidance_from"].any() and bool((call["guidance_to"] == 1).all())


class Seen(torch.nn.Module):
    """A small network that records its inputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
        self.record = lambda call: None

    def forward(self, x, s, t, label, guidance=None, **condition):
        self.record(
            {"s": s, "t": t, "label": label, "guidance": guidance, "graph": torch.is_grad_enabled(), **condition}
        )
        guidance = torch.ones_like(label, dtype=x.dtype) if guidance is None else guidance
        return self.layers(torch.cat([x, *(c[:, None] for c in (s, t, label.to(x.dtype), 1 / guidance))], 1))


def gradient(loss, flow):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(flow.network.parameters()))])


def test_guidance_free_training_is_the_loss_of_its_paper():
    """|| b V(c, w) + (1 - b) sg V(null, 1) - u ||^2 with b = 1/w, in value and gradient.

    Improved MeanFlow's residual is the same, divided by b.
    """
    flow, eps = fm.FlowMap(Seen()), torch.randn_like(X)
    x = (1 - S)[:, None] * X + S[:, None] * eps
    condition = {"label": LABEL, **SCALES}
    ours = guidance.guided(flow_matching(), guidance.gft(null=NULL)).loss(flow, X, condition, noise=eps, times=(S, S))
    null = flow.given(label=torch.full_like(LABEL, 3), guidance=torch.ones_like(ROW_SCALES)).velocity(x, S).detach()
    b = 1 / ROW_SCALES[:, None]
    residual = b * flow.given(**condition).velocity(x, S) + (1 - b) * null - (eps - X)
    torch.testing.assert_close(ours.terms["diffusion"].residual, residual)
    torch.testing.assert_close(gradient(ours.value, flow), gradient(residual.square().mean(), flow))
    imf = guidance.guided(flow_matching(), guidance.imf(null=NULL)).loss(flow, X, condition, noise=eps, times=(S, S))
    torch.testing.assert_close(imf.terms["diffusion"].residual, residual)


def test_meanflow_mixes_as_its_paper():
    """omega u + kappa V(c) + (1 - omega - kappa) V(null) with omega = scale (1 - kappa)."""
    flow, eps = fm.FlowMap(Seen()), torch.randn_like(X)
    x, u = (1 - S)[:, None] * X + S[:, None] * eps, eps - X
    source = guidance.meanflow(2.5, 0.92, null=NULL)
    here, null = (flow.given(label=label).velocity(x, S) for label in (LABEL, torch.full_like(LABEL, 3)))
    pair = fm.velocity.Pair(X, eps, flow.path, {"label": LABEL})
    target = source(flow.given(label=LABEL), pair).velocity(x, S)
    torch.testing.assert_close(target, 0.2 * u + 0.92 * here + (1 - 0.2 - 0.92) * null)
    assert not target.requires_grad
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got 1"):
        guidance.meanflow(2.0, 1.0, null=NULL)


def test_terminal_velocity_matching_asks_its_averaged_weights():
    flow = fm.FlowMap(Seen())
    method = guidance.guided(methods.tvm(ema=0.9), guidance.tvm(null=NULL))
    condition = {"label": LABEL, **SCALES}
    method.loss(flow, X, condition)
    [average] = method.parts
    with torch.no_grad():
        for weight in average.network.parameters():
            weight.zero_()
    average._followed = (flow.network, fm.velocity.companions._norms(flow.network))
    eps = torch.randn_like(X)
    residual = method.loss(flow, X, condition, noise=eps, times=(S, S)).terms["diffusion"].residual
    x = (1 - S)[:, None] * X + S[:, None] * eps
    torch.testing.assert_close(residual, flow.given(**condition).velocity(x, S) / ROW_SCALES[:, None] - (eps - X))
    with pytest.raises(ValueError, match="lsd has none"):
        guidance.guided(methods.lsd(), guidance.tvm(null=NULL))


def test_where_the_source_is_put():
    source = guidance.meanflow(null=NULL)
    for build in (methods.meanflow, methods.alphaflow, methods.soflow, methods.dmf):
        first, second = guidance.guided(build(), source).terms
        assert isinstance(first.velocity, guidance.GuidedConditional) and isinstance(
            second.velocity, guidance.GuidedConditional
        )
        assert not second.sources  # the derivative runs along the guided velocity
    _, second = guidance.guided(methods.imf(), guidance.imf(null=NULL)).terms
    assert set(second.sources) == {"along"} and not fm.velocity.is_conditional(second.sources["along"])
    staged = guidance.guided(fm.Stages((1, methods.meanflow()), (3, methods.imf())), source)
    assert isinstance(staged, fm.Stages) and staged.ends == [0.25, 1.0]
    assert all(isinstance(term.velocity, guidance.GuidedConditional) for term in staged.terms)
    with pytest.raises(ValueError, match="teacher=guidance.classifier_free"):
        guidance.guided(methods.lmd(fm.exact.Gaussian()), source)
    with pytest.raises(ValueError, match="needs jumps of its teacher"):
        guidance.guided(methods.psd(), guidance.lsd(null=NULL))


def test_a_missing_condition_is_named():
    flow = fm.FlowMap(Seen())
    method = guidance.guided(methods.meanflow(), guidance.imf(null=NULL))
    with pytest.raises(ValueError, match="GuidanceScales draws them"):
        method.loss(flow, X, LABEL)
    with pytest.raises(ValueError, match="'label' is missing"):
        method.loss(flow, X, SCALES)
    with pytest.raises(ValueError, match=r"pad them to one size"):
        condition = {**SCALES, "label": torch.zeros(len(X), 7, 2)}
        guidance.guided(methods.meanflow(), guidance.imf(null={"label": torch.zeros(1, 5, 2)})).loss(flow, X, condition)


@pytest.mark.parametrize("make", [guidance.meanflow, guidance.dmf])
def test_scales_are_positive(make):
    with pytest.raises(ValueError, match="must be positive, got 0"):
        make(0.0, null=NULL)


def test_fading_is_smooth_and_ends_at_zero():
    s = torch.linspace(0, 1, 10001, dtype=torch.float64)
    share = guidance.Fading()(s)
    assert bool((share[s <= 0.8] == 1).all()) and share[-1] == 0 and bool((share.diff() <= 0).all())
    torch.testing.assert_close(share[9000], 1 - torch.exp(torch.tensor(-0.025, dtype=torch.float64)))
    assert torch.equal(ConstantShare(0.75)(share, share), torch.full_like(share, 0.75))


class Table(torch.nn.Module):
    """A velocity at one time that is linear in features of x and in w, for each label."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(4, 2, 8))
        self.centres = torch.linspace(-2.4, 2.4, 7)

    def forward(self, x, s, t, label, guidance):
        bumps = torch.exp(-((x - self.centres) ** 2) / 0.5)
        features = torch.cat([bumps, x], 1)
        slope = torch.stack([torch.ones_like(guidance), guidance - 1], 1)
        return torch.einsum("bij,bi,bj->b", self.weight[label], slope, features)[:, None]


def samples():
    """Rows of three classes with label dropout and random scales."""
    weights = torch.tensor(WEIGHTS)
    label = torch.multinomial(weights, 20_000, replacement=True)
    x0 = torch.tensor(MEANS)[label] + torch.tensor(STDS)[label] * torch.randn(len(label))
    data = fm.data.as_data((x0[:, None], label))
    return transformed(data, LabelDropout(0.3, null=3), GuidanceScales(1.0, 3.0, null=NULL))


WEIGHTS, MEANS, STDS = [0.3, 0.5, 0.2], [-1.0, 0.2, 1.0], [0.4, 0.5, 0.3]


@pytest.mark.parametrize("source", [guidance.imf(null=NULL), guidance.gft(null=NULL)], ids=["imf", "gft"])
def test_training_comes_to_the_scale_that_is_asked_for(source):
    flow, method = fm.FlowMap(Table()), guidance.guided(flow_matching(), source)
    optimizer = torch.optim.Adam(flow.parameters(), lr=0.1)
    half = torch.full((3000,), 0.5)
    for k, batch in zip(range(150), samples().batches(3000), strict=False):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - k / 150)
        optimizer.zero_grad()
        method.loss(flow, batch.x0, {"label": batch.label, **batch.given}, times=(half, half)).value.backward()
        optimizer.step()
    whole = fm.exact.GaussianMixture(WEIGHTS, MEANS, STDS)
    for k, (mean, std) in enumerate(zip(MEANS, STDS, strict=True)):
        x = mean / 2 + torch.linspace(-0.5, 0.5, 9)[:, None]
        null = whole.velocity(x, 0.5)
        gap = fm.exact.Gaussian([mean], std).velocity(x, 0.5) - null
        for scale in (1.0, 2.0, 3.0):
            condition = {"label": torch.full((9,), k), "guidance": torch.full((9,), scale)}
            learned = flow.given(**condition).velocity(x, 0.5) - null
            assert abs((learned * gap).sum() / gap.square().sum() - scale) < 0.15 * scale


def test_a_run_records_the_guidance_that_it_has_learned(tmp_path):
    flow, method = fm.FlowMap(Table()), guidance.guided(flow_matching(), guidance.imf(null=NULL))
    settings = {"steps": 2, "progress_bar": False, "trackers": (), "sample_every": 0, "out": tmp_path / "run"}
    *_, last = fm.train(flow, method, samples(), **settings)
    spec = fm.GuidanceSpec((1.0, 3.0), null=NULL)
    assert flow.guidance == last.ema.guidance == guidance_of(method, samples()) == spec
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    assert fm.load(tmp_path / "run", network=Table()).guidance == spec
    assert config["flow"].pop("guidance")["arguments"]["scale"] == [1.0, 3.0]
    path.write_text(json.dumps(config))  # as a run of an early version, which does not record it
    assert fm.load(tmp_path / "run", network=Table()).guidance is None
