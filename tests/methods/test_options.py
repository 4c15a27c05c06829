"""What methods take beside their plain settings: distances, further terms, stages."""

import pytest
import torch

import flowmaps as fm
from flowmaps.methods.mid_training import trajectory_times
from flowmaps.networks import Critic
from tests.methods.support import Network, batch
from tests.oracles import PATHS, flow_of, gaussian

X0, EPS, (S, T) = batch()


def absolute(a, b):
    """A distance that is not a function of a - b alone: (B, 1)."""
    return (a - b).abs().mean(1, keepdim=True) * (1 + b.detach().square().mean(1, keepdim=True))


@pytest.mark.parametrize("name", ["cd", "ctm"])
def test_distances_of_positions_take_the_place_of_the_difference(name):
    flow, teacher = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    build = getattr(fm.methods, name)
    given = {"noise": EPS, "times": (S, T)}
    (plain,) = build(teacher).loss(flow, X0, **given).terms.values()
    difference = build(teacher, compare=lambda a, b: a - b).loss(flow, X0, **given).terms["eulerian"].residual
    torch.testing.assert_close(difference, plain.residual)
    seen = build(teacher, compare=absolute, weight=fm.weight.plain).loss(flow, X0, **given).terms["eulerian"]
    assert seen.residual.shape == (len(X0), 1) and (seen.residual > 0).all()
    torch.testing.assert_close(seen.value, seen.residual.mean())


def test_physics_informed_distillation_by_a_distance_is_zero_at_the_truth():
    g = gaussian()
    method = fm.methods.pid(g, compare=absolute, weight=fm.weight.plain, derivative=fm.derivative.jvp)
    x0 = torch.full((12, 3), torch.nan, dtype=torch.float64)
    loss = method.loss(flow_of(g), x0, noise=EPS, times=(1.0, T))
    assert loss.terms["lagrangian"].residual.abs().max() < 1e-10


def test_physics_informed_distillation_by_the_difference_is_t_times_its_residual():
    flow, teacher = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    residuals = [
        fm.methods.pid(teacher, compare=compare).loss(flow, X0, noise=EPS, times=(1.0, T)).terms["lagrangian"].residual
        for compare in (torch.sub, None)
    ]
    # F - t dF/dt - (F - t v) = -t (dF/dt - v)
    torch.testing.assert_close(residuals[0], -T[:, None] * residuals[1], rtol=1e-9, atol=1e-9)


def test_pixel_meanflow_sees_the_denoised_field_below_a_noise_level():
    flow = fm.FlowMap(Network(seed=1))
    method = fm.methods.pixel_meanflow(compare=absolute, until=0.5, weight=fm.weight.squared)
    loss = method.loss(flow, X0, noise=EPS, times=(S, T))
    term = loss.terms["denoised"]
    x = (1 - S[:, None]) * X0 + S[:, None] * EPS
    wanted = absolute(x - S[:, None] * flow.average_velocity(x, S, T), X0)
    torch.testing.assert_close(term.residual, wanted)
    torch.testing.assert_close(term.value, (wanted[:, 0] * (S < 0.5)).mean())
    assert sum(term.share for term in method.terms) == pytest.approx(1)


def test_ctm_with_all_its_terms():
    flow, teacher = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    critic = Critic(3, 16, 2).double()
    method = fm.methods.ctm(teacher, denoising=0.25, discriminator=critic)
    assert [term.share for term in method.terms] == [0.5, 0.25, 0.25]
    loss = method.loss(flow, X0, noise=EPS, times=(S, T))
    assert list(loss.terms) == ["eulerian", "diffusion", "adversarial", "discriminator"]
    # each is as strong in the last layer as the first, within the bounds of the ratio
    last = flow.network.outer.weight
    sizes = {
        name: torch.autograd.grad(loss.terms[name].value, last, retain_graph=True)[0].norm()
        for name in ("eulerian", "diffusion", "adversarial")
    }
    lowest = {"eulerian": 0.0, "diffusion": 0.0, "adversarial": 0.01}
    ratio = {name: (sizes["eulerian"] / size).clamp(lowest[name], 10) for name, size in sizes.items()}
    value = 0.5 * loss.terms["eulerian"].value + 0.25 * loss.terms["discriminator"].value
    for name in ("diffusion", "adversarial"):
        value = value + 0.25 * ratio[name] * loss.terms[name].value
    torch.testing.assert_close(loss.value, value, rtol=1e-5, atol=1e-9)  # the ratio adds 1e-8 below


def test_the_adversarial_losses_are_the_relativistic_pair():
    flow = fm.FlowMap(Network(seed=1))
    critic = Critic(3, 16, 2).double()
    method = fm.methods.ctm(fm.FlowMap(Network(seed=2)), discriminator=critic)
    loss = method.loss(flow, X0, noise=EPS, times=(1.0, 0.0))
    fake, real = flow(EPS, 1.0, 0.0).detach(), X0
    margin = critic(fake) - critic(real)
    torch.testing.assert_close(loss.terms["adversarial"].residual[:, 0], torch.nn.functional.softplus(-margin))
    penalty = torch.zeros(len(X0), dtype=torch.float64)
    for z in (fake, real):
        z = z.clone().requires_grad_()
        (slope,) = torch.autograd.grad(critic(z).sum(), z)
        penalty += slope.square().sum(1)
    wanted = torch.nn.functional.softplus(margin) + 0.05 * penalty
    torch.testing.assert_close(loss.terms["discriminator"].residual[:, 0], wanted)


def test_align_your_flow_gets_its_adversarial_stage():
    flow, teacher = fm.FlowMap(Network(seed=1)), fm.FlowMap(Network(seed=2))
    method = fm.methods.ayf_emd(teacher, discriminator=Critic(3, 16, 2).double(), fine_tuning=0.25)
    assert set(method.loss(flow, X0, progress=0.7).terms) == {"eulerian"}
    assert set(method.loss(flow, X0, progress=0.8).terms) == {"eulerian", "adversarial", "discriminator"}
    assert len(method.auxiliaries) == 1 and not method.data_free


def test_a_teacher_on_another_path_is_refused():
    flow = fm.FlowMap(Network(seed=1), path=PATHS["trigonometric"])
    with pytest.raises(ValueError, match="teacher is on the path Linear.*flow map on Trigonometric"):
        fm.methods.lmd(fm.FlowMap(Network(seed=2))).loss(flow, X0)


def test_mid_training_shares_a_trajectory_and_its_label_in_a_group():
    """Eight rows are one trajectory of the teacher, conditioned on the label of the group's first row."""

    class Teacher:
        calls = []

        def given(self, label):
            self.label = label
            return self

        def velocity(self, x, t):
            assert len(self.label) == len(x)
            self.calls.append(len(x))
            return self.label[:, None] * torch.ones_like(x)

    seen = []

    class Student(Network):
        def forward(self, x, s, t, label):
            seen.append(label)
            return super().forward(x, s, t)

    teacher = Teacher()
    label = torch.arange(32, dtype=torch.float64)
    loss = fm.methods.cmt(teacher, points=8).loss(fm.FlowMap(Student()), torch.randn(32, 3).double(), {"label": label})
    assert teacher.calls == [4] * 8
    assert torch.equal(seen[0], torch.arange(4.0).repeat(8))
    # a constant velocity: the average velocity to learn is the label
    assert loss.terms["compositional"].residual.shape == (32, 3)
    target = fm.methods.cmt(teacher, points=8).loss(
        fm.FlowMap(_Constant()), torch.randn(32, 3).double(), {"label": label}
    )
    assert target.terms["compositional"].residual.abs().max() < 1e-12


class _Constant(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x, s, t, label):
        return self.scale * label[:, None] * torch.ones_like(x)


@pytest.mark.parametrize("build", [fm.methods.cd, fm.methods.ctm])
def test_a_grid_of_one_point_is_refused_in_the_words_of_the_caller(build):
    with pytest.raises(ValueError, match="grid of at least two points, got 1"):
        build(gaussian(), points=1)


def test_mid_training_draws_every_source_in_small_batches_too():
    """Four rows of sixteen sources: in 2000 batches each comes up Binomial(2000, 1/4) times, 500 +- 19.4."""
    torch.manual_seed(0)
    draw = trajectory_times(16)
    s = torch.cat([draw(4, 0.0, X0)[0] for _ in range(2000)])
    counts = torch.bincount((16 * s).round().long(), minlength=17)[1:]
    assert counts.min() > 500 - 5 * 19.4 and counts.max() < 500 + 5 * 19.4
