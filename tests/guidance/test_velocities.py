"""Guided velocities: their formulas, as teachers, under derivatives, and their errors."""

import warnings

import pytest
import torch

import flowmaps as fm
from flowmaps import guidance, methods
from flowmaps.runs.fingerprint import fingerprint
from flowmaps.serialise import describe
from flowmaps.training.teachers import guidance_of, move_teachers, teachers
from tests.guidance.support import CLASSES, MIXTURE, NULL, Field, Jumps, guided, of_class, rows

X, S, LABEL = rows()
ROW_SCALES = torch.linspace(0, 6, len(X), dtype=torch.float64)
V, V_NULL = of_class("velocity", LABEL, X, S), MIXTURE.velocity(X, S)


def model(scale=1.0):
    """The class-conditional velocities, as a FlowMap."""
    return fm.FlowMap(Field(lambda s: torch.full_like(s, scale)))


class Network(torch.nn.Module):
    """A small label-conditioned network."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()

    def forward(self, x, s, t, label):
        return self.layers(torch.cat([x, s[:, None], t[:, None], label[:, None].to(x.dtype)], 1))


def test_the_scale_that_is_asked_for_comes_out():
    for scale in (0.0, 1.0, 2.5):
        v = guidance.classifier_free(model(), scale, null=NULL).given(label=LABEL)
        torch.testing.assert_close(v.velocity(X, S), guided(X, S, LABEL, scale), rtol=1e-12, atol=1e-12)
    v = guidance.classifier_free(model(), null=NULL).given(label=LABEL, guidance=ROW_SCALES)
    torch.testing.assert_close(v.velocity(X, S), guided(X, S, LABEL, ROW_SCALES), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(v.denoise(X, S), X - S[:, None] * v.velocity(X, S))
    unguided = guidance.classifier_free(model(), 1.0, null=NULL).given(label=LABEL)
    assert torch.equal(unguided.velocity(X, S), model().given(label=LABEL).velocity(X, S))


def test_guidance_acts_in_its_interval_alone():
    inside = (S >= 0.3) & (S <= 0.7)
    expected = guided(X, S, LABEL, torch.where(inside, 3.0, 1.0).double())
    fixed = guidance.classifier_free(model(), 3.0, null=NULL, interval=(0.3, 0.7)).given(label=LABEL)
    conditioned = guidance.classifier_free(model(), null=NULL).given(
        label=LABEL, guidance=3.0, guidance_from=0.3, guidance_to=torch.full_like(S, 0.7)
    )
    for v in (fixed, conditioned):
        torch.testing.assert_close(v.velocity(X, S), expected)
        assert torch.equal(v.velocity(X, S)[~inside], model().given(label=LABEL).velocity(X, S)[~inside])
    faded = guidance.classifier_free(model(), 3.0, null=NULL, interval=guidance.Fading()).given(label=LABEL)
    torch.testing.assert_close(faded.velocity(X, S), guided(X, S, LABEL, 1 + 2 * guidance.Fading()(S)))


def test_both_passes_are_one_call_and_none_is_made_for_nothing():
    flow = model()
    v = guidance.classifier_free(flow, 3.0, null=NULL, interval=(0.3, 0.7)).given(label=LABEL)
    for t, asked in ((0.5, 2), (0.8, 1), (torch.tensor(0.8), 2)):
        flow.network.calls.clear()
        v.velocity(X, t)
        [call] = flow.network.calls
        assert len(call["s"]) == asked * len(X)
    assert torch.equal(call["label"], torch.cat([LABEL, torch.full_like(LABEL, 3)]))


def test_negative_conditions_and_other_ones():
    """Null conditions as rows, numbers and single rows; all other conditions are the same in both passes."""
    negative = guidance.classifier_free(model(), 2.0, null={"label": LABEL.flip(0)}).given(label=LABEL)
    expected = 2 * V - of_class("velocity", LABEL.flip(0), X, S)
    torch.testing.assert_close(negative.velocity(X, S), expected)
    single = guidance.classifier_free(model(), 2.0, null={"label": torch.tensor([3])}).given(label=torch.tensor(1))
    torch.testing.assert_close(single.velocity(X, S), 2 * CLASSES[1].velocity(X, S) - V_NULL)

    class TextConditioned:
        def given(self, text, mask, mode):
            assert text.shape == (2 * len(X), 5, 2) and mode == "plain"
            assert torch.equal(mask[: len(X)], mask[len(X) :])
            self.text = text
            return self

        def velocity(self, x, t):
            return x * self.text[:, 0, :1]

    text, mask = torch.rand(len(X), 5, 2, dtype=torch.float64), torch.rand(len(X), 5)
    v = guidance.classifier_free(TextConditioned(), 3.0, null={"text": torch.ones(1, 5, 2)})
    torch.testing.assert_close(v.given(text=text, mask=mask, mode="plain").velocity(X, S), X * (3 * text[:, 0, :1] - 2))
    with pytest.raises(ValueError, match=r"rows of \(5, 2\) and \(7, 2\): pad them"):
        v = guidance.classifier_free(TextConditioned(), 3.0, null={"text": torch.ones(1, 7, 2)})
        v.given(text=text, mask=mask, mode="plain").velocity(X, S)


def test_autoguidance_model_guidance_and_mixtures():
    weak = MIXTURE
    auto = guidance.autoguidance(model(), weak, 2.0, interval=(0.3, 1)).given(label=LABEL)
    expected = torch.where((S >= 0.3)[:, None], 2 * V - V_NULL, V)
    torch.testing.assert_close(auto.velocity(X, S), expected)
    conditioned = guidance.autoguidance(model(), weak).given(label=LABEL, guidance=ROW_SCALES)
    torch.testing.assert_close(conditioned.velocity(X, S), guided(X, S, LABEL, ROW_SCALES))
    other = guidance.model_guidance(MIXTURE, model(), 0.7, null=NULL, interval=(0, 0.5)).given(label=LABEL)
    expected = V_NULL + torch.where((S <= 0.5)[:, None], 0.7 * (V - V_NULL), 0)
    torch.testing.assert_close(other.velocity(X, S), expected)
    itself = guidance.model_guidance(model(), model(), null=NULL).given(label=LABEL, guidance=ROW_SCALES)
    torch.testing.assert_close(itself.velocity(X, S), guided(X, S, LABEL, 1 + ROW_SCALES))
    flow = model()
    both = guidance.mixture(
        {flow.given(label=LABEL): 1.5, flow.given(label=0 * LABEL): 1.0, flow.given(label=0 * LABEL + 3): -1.5}
    )
    torch.testing.assert_close(both.velocity(X, S), 1.5 * V + CLASSES[0].velocity(X, S) - 1.5 * V_NULL)
    with pytest.raises(ValueError, match="sum to 1"):
        guidance.mixture({flow: 0.5, MIXTURE: 0.7})


def test_guided_velocities_are_members_of_others():
    inner = guidance.autoguidance(model(), MIXTURE, 2.0)
    nested = guidance.classifier_free(inner, 1.5, null=NULL).given(label=LABEL)
    torch.testing.assert_close(nested.velocity(X, S), guided(X, S, LABEL, 3.0))


@pytest.mark.parametrize("make", [guidance.classifier_free, guidance.model_guidance])
@pytest.mark.parametrize("derivative", [fm.derivative.jvp, fm.derivative.detached, fm.derivative.functorch])
def test_derivatives_pass_through(make, derivative):
    """Along x and t, at other times than the ends of an interval, against differences."""
    arguments = [fm.FlowMap(Network())] + ([fm.FlowMap(Network(1))] if make is guidance.model_guidance else [])
    v = make(*arguments, 2.0, null=NULL, interval=guidance.Fading(0.5)).given(label=LABEL)
    t, direction = S[:, None].clamp(max=0.9), torch.randn_like(X)
    value, d = derivative(v.velocity, (X, t), (direction, 1))
    h = 1e-5
    difference = (v.velocity(X + h * direction, t + h) - v.velocity(X - h * direction, t - h)) / (2 * h)
    torch.testing.assert_close(value, v.velocity(X, t))
    torch.testing.assert_close(d, difference, rtol=1e-6, atol=1e-7)


def test_samplers_follow_the_guided_velocity():
    noise, label = torch.randn(6, 1, dtype=torch.float64), torch.arange(6) % 3
    v = guidance.classifier_free(fm.FlowMap(Jumps(1.0)), 2.0, null=NULL)
    truth = fm.sample(fm.FlowMap(Jumps(2.0)), noise, condition=label)
    errors = [
        (fm.sample(v, noise, n, step=step, condition=label) - truth).abs().max()
        for step, n in ((fm.steps.euler, 40), (fm.steps.euler, 80), (fm.steps.heun, 40), (fm.steps.heun, 80))
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.3) and errors[2] / errors[3] == pytest.approx(4, rel=0.3)
    assert errors[3] < 3e-3


def test_as_a_teacher_its_weights_are_constants():
    weak, strong = fm.FlowMap(Network(1)), fm.FlowMap(Network(2))
    scaled = {"label": LABEL, "guidance": ROW_SCALES}
    inner = guidance.classifier_free(strong, 2.0, null=NULL)
    for teacher in (
        guidance.classifier_free(strong, null=NULL),
        guidance.autoguidance(inner, weak),
        guidance.model_guidance(strong, weak, null=NULL),
        guidance.mixture({inner: 0.5, weak: 0.5}),
    ):
        condition = scaled if getattr(teacher, "scale", 1) is None else {"label": LABEL}
        seen = []

        class Student(Network):
            def forward(self, x, s, t, label, guidance=None, seen=seen):
                seen.append(guidance)
                return super().forward(x, s, t, label)

        student = fm.FlowMap(Student())
        method = methods.lmd(teacher)
        method.loss(student, X, condition).value.backward()
        assert all(weight.grad is None for flow in (weak, strong) for weight in flow.parameters())
        assert all(weight.grad is not None for weight in student.parameters())
        assert all((given is None) == (condition is not scaled) for given in seen)
        [held] = teachers(method)
        held_weights = {id(weight) for weight in held.parameters()}
        assert {id(weight) for weight in strong.parameters()} <= held_weights
        move_teachers(method, torch.device("cpu"))
        assert guidance_of(method, fm.data.as_data(X)) == teacher.guidance


def test_the_gradient_through_a_teacher_is_the_gradient_of_its_velocity():
    """LMD differentiates its teacher at F."""
    flow, x = fm.FlowMap(Network()), X.clone().requires_grad_()
    pair = fm.velocity.Pair(X, X, flow.path, {"label": LABEL})
    teacher = fm.velocity.fixed(guidance.classifier_free(flow, 3.0, null=NULL))(None, pair)
    [ours] = torch.autograd.grad(teacher.velocity(x, S).sum(), x)
    here, null = (flow.given(label=label).velocity(x, S) for label in (LABEL, 0 * LABEL + 3))
    [expected] = torch.autograd.grad((3 * here - 2 * null).sum(), x)
    torch.testing.assert_close(ours, expected)


def test_evaluation_takes_a_guided_velocity():
    data = fm.data.as_data((MIXTURE.sample(400).float(), torch.arange(400) % 3))
    network = fm.networks.MLP(1, width=8, depth=1, classes=3)
    v = guidance.classifier_free(fm.FlowMap(network), 2.0, null=NULL)
    table = fm.evaluate.evaluate(v, data, jumps=(), ode_steps=(2,), n=20, draws=2)
    assert [row["network_calls"] for row in table["rows"]] == [2]
    assert table["rows"][0]["distance"] is not None


def test_warnings():
    flow = fm.FlowMap(Network(), guidance=fm.GuidanceSpec(2.0))
    for other in (flow.given(label=LABEL), flow.around(flow.network), flow.unlimited()):
        assert other.guidance == fm.GuidanceSpec(2.0)
    model = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1), guidance=fm.GuidanceSpec(2.0))
    assert fm.students.student(model).guidance == model.guidance
    with pytest.warns(UserWarning, match=r"baked in already \(learned, scale 2, between times 0 and 1\)"):
        guidance.classifier_free(flow, 2.0, null=NULL)
    plain = guidance.classifier_free(fm.FlowMap(Network()), 2.0, null=NULL).given(label=LABEL)
    with pytest.warns(UserWarning, match="guidance of jumps.*steps.euler"):
        fm.sample(plain, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fm.sample(plain, X, 3, step=fm.steps.euler)
        methods.lmd(flow).loss(fm.FlowMap(Network()), X, LABEL)


def test_the_guidance_of_a_teacher_is_recorded():
    """So a run is not resumed with another one. It is not described: no file names a teacher, which is no flow map."""
    network = fm.networks.MLP(1, width=8, depth=1, classes=3)
    v = guidance.classifier_free(fm.FlowMap(network), 2.0, null=NULL, interval=(0.0, 0.5))
    seen = fingerprint(methods.lmd(v).terms)[0]["arguments"]["velocity"]["arguments"]["teacher"]["arguments"]
    assert (seen["scale"], seen["null"]) == (2.0, NULL) and seen["interval"]["arguments"] == {"start": 0.0, "end": 0.5}
    assert v.guided == "ClassifierFree, scale 2, between times 0 and 0.5"
    with pytest.raises(TypeError, match="cannot describe .*ClassifierFree"):
        describe(v)


def test_errors():
    with pytest.raises(TypeError, match="needs velocities, objects with velocity"):
        guidance.classifier_free(torch.nn.Linear(1, 1), 2.0, null=NULL)
    with pytest.raises(TypeError, match=r"needs a teacher with given\(\*\*condition\)"):
        guidance.classifier_free(MIXTURE, 2.0, null=NULL).given(label=LABEL).velocity(X, S)
    with pytest.raises(ValueError, match="'label' is missing"):
        guidance.classifier_free(model(), 2.0, null=NULL).velocity(X, S)
    with pytest.raises(ValueError, match="the condition 'guidance'"):
        guidance.classifier_free(model(), null=NULL).given(label=LABEL).velocity(X, S)
    with pytest.raises(ValueError, match=r"needs one row, or one for each of the 24"):
        guidance.classifier_free(model(), 2.0, null={"label": torch.arange(5)}).given(label=LABEL).velocity(X, S)
    with pytest.raises(TypeError, match="must be a tensor or a number in both cases"):
        guidance.classifier_free(model(), 2.0, null={"label": None}).given(label=LABEL).velocity(X, S)
    with pytest.raises(ValueError, match="the smaller one first"):
        guidance.classifier_free(model(), 2.0, null=NULL, interval=(0.7, 0.3))
    with pytest.raises(ValueError, match="on different paths"):
        guidance.autoguidance(model(), fm.FlowMap(Network(), path=fm.path.trigonometric))
