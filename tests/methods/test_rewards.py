"""Post-training on a reward: the tilted velocity as a teacher, and the exact gradient of each method; row 22."""

import math

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.methods.rewards import tilted as tilted_rule
from tests.beds import bed_a, bed_e, bed_g
from tests.methods.test_landscape import passes
from tests.oracles import PATHS, flow_of, randn


def row_reward(x0):
    return x0[:, 0]


class Constant(nn.Module):
    """A map whose average velocity is a reference's plus one number."""

    def __init__(self, exact, shift=0.0):
        super().__init__()
        self.exact, self.shift = exact, nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, x, s, t):
        return self.exact.average_velocity(x, s, t) + self.shift


class Steered:
    """Any object with a velocity: the velocity of a bed, tilted by its exact value, v - b grad V."""

    def __init__(self, bed):
        self.bed, self.path = bed, bed.law.path

    def velocity(self, x, t):
        t = fm.path.expand(t, x)
        with torch.enable_grad():
            y = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.bed.value(y, t).sum(), y)
        return self.bed.law.velocity(x, t) - t / (1 - t) * slope


# --- the tilted velocity as a teacher ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [bed_a, bed_e, bed_g])
def test_a_steered_velocity_is_that_of_the_tilted_law(make):
    bed = make()
    x = randn(5, *bed.law.shape)
    for t in (0.1, 0.5, 0.9):
        torch.testing.assert_close(Steered(bed).velocity(x, t), bed.tilted[0].velocity(x, t))


@pytest.mark.parametrize("name", ["lmd", "emd"])
def test_the_map_of_the_tilted_law_is_what_a_steered_teacher_teaches(name):
    """The tilted law of a Gaussian is N(1, 1/2): its map has no residual, and the map of the law has one."""
    bed, x0 = bed_e(), randn(12, 1)
    s, t = torch.linspace(0.95, 0.4, 12).double(), torch.linspace(0.3, 0.05, 12).double()
    method = getattr(fm.methods, name)(teacher=Steered(bed))
    for law, right in ((fm.exact.Gaussian([1.0], math.sqrt(0.5)), True), (fm.exact.Gaussian([0.0], 1.0), False)):
        loss = method.loss(flow_of(law), x0, times=(s, t))
        assert (float(loss.value.detach()) < 1e-18) == right


# --- tilting ----------------------------------------------------------------------------------------------------------


def gradient_at(bed, x, t, shift, *, draws, n, by_gradient=True, reward=row_reward, seed=0):
    """Gradient of the first term of `tilting` with respect to a constant added to V, with n rows at one state."""
    law = bed.law

    class Exact:
        """The exact posterior map, with exact derivatives, by the rearrangement of its components' law."""

        path, velocity = law.path, law.velocity

        def given(self, *, state, at):
            self.state, self.at = state, at
            return self

        def __call__(self, z, s, t):
            return exact_draw(law, self.state, fm.path.expand(self.at, z), z / law.path.sigma(torch.ones(())))

    flow = fm.FlowMap(Constant(law, shift), path=law.path)
    method = fm.methods.tilting(reward, 1.0, law, posterior=Exact(), draws=draws, diagonal=1.0, by_gradient=by_gradient)
    torch.manual_seed(seed)
    [term] = method.terms
    pair = term.draw(fm.velocity.Pair(torch.zeros(n, 1).double(), torch.zeros(n, 1).double(), law.path, {}),
                     times=(torch.full((n,), t).double(),) * 2)  # fmt: skip
    states, s = torch.full((n, 1), x, dtype=torch.float64), torch.full((n, 1), t).double()
    sources = {name: source(flow, pair) for name, source in term.sources.items()}
    residual = term.rule(flow, fm.velocity.fixed(law)(flow, pair), states, s, s, **pair.numbers, **sources)
    return 2 * residual.detach()[:, 0]  # the gradient of the square with respect to the constant


def exact_draw(law, state, at, z):
    """A draw of the posterior of a mixture in one dimension, differentiable in the state: x_0 = Q(Phi(z) | state)."""
    rows = law.posterior_of_data(state, at)
    weights, means, stds = rows.weights, rows.means[..., 0], rows.variances[..., 0].sqrt()
    p = 0.5 * torch.erfc(-z / math.sqrt(2))
    low, high = torch.full_like(z, -9.0), torch.full_like(z, 9.0)
    with torch.no_grad():
        for _ in range(40):
            middle = (low + high) / 2
            below = (weights * torch.distributions.Normal(means, stds).cdf(middle)).sum(1, keepdim=True) < p
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    x0 = (low + high) / 2
    law_of_rows = torch.distributions.Normal(means, stds)
    density = (weights * law_of_rows.log_prob(x0).exp()).sum(1, keepdim=True).detach()
    mass = (weights * law_of_rows.cdf(x0.detach())).sum(1, keepdim=True)
    return x0 - (mass - mass.detach()) / density  # implicit derivative


X, T = 0.3, 0.5
STEP = -1.0357752217  # c grad V of bed G at (X, T)


@pytest.mark.parametrize("by_gradient", [True, False])
@pytest.mark.parametrize("draws", [1, 2])
def test_the_gradient_of_tilting_is_unbiased(draws, by_gradient):
    """Row 22: zero in expectation at the tilted velocity, and 2 E[w] (d - c grad V) elsewhere; 4 standard errors."""
    bed = bed_g()
    exact = bed.tilted[0].velocity(torch.tensor([[X]]).double(), T) - bed.law.velocity(torch.tensor([[X]]).double(), T)
    assert float(exact) == pytest.approx(STEP)
    mean_w = float(bed.value(torch.tensor([[X]]).double(), T).exp())
    for shift in (STEP, 0.0, STEP + 1):
        found = gradient_at(bed, X, T, shift, draws=draws, n=15_000, by_gradient=by_gradient)
        error = float(found.std()) / len(found) ** 0.5
        assert abs(float(found.mean()) - 2 * mean_w * (shift - STEP)) < 4 * error
        assert 4 * error < abs(mean_w)  # the check can fail


@pytest.mark.parametrize("path", [*PATHS.values(), fm.path.VarianceExploding(20.0)], ids=[*PATHS, "far exploding"])
@pytest.mark.parametrize("by_gradient", [True, False])
def test_tilting_is_unbiased_on_every_path(path, by_gradient):
    """At the tilted velocity the gradient is zero in expectation, also where b is large: 4 standard errors."""
    bed = bed_g().on(path)
    state = path.interpolate(torch.tensor([[0.4]]).double(), torch.tensor([[-0.2]]).double(), T)
    step = float(bed.tilted[0].velocity(state, T) - bed.law.velocity(state, T))
    mean_w = float(bed.value(state, T).exp())
    for shift, zero in ((step, True), (0.5 * step, False)):
        found = gradient_at(bed, float(state), T, shift, draws=1, n=8000, by_gradient=by_gradient)
        error = float(found.std()) / len(found) ** 0.5
        assert abs(float(found.mean()) - 2 * mean_w * (shift - step)) < 4 * error
        assert zero or abs(float(found.mean())) > 4 * error


def test_the_naive_square_has_another_minimum():
    """Negative control: the square of w d - c grad w is stationary at c E[w grad w] / E[w^2]."""
    bed, n = bed_g(), 60_000
    torch.manual_seed(0)
    x = torch.full((n, 1), X, dtype=torch.float64, requires_grad=True)
    w = exact_draw(bed.law, x, torch.full((n, 1), T).double(), randn(n, 1))[:, 0].exp()
    (slope,) = torch.autograd.grad(w.sum(), x)
    w, slope = w.detach(), slope[:, 0]
    unbiased, naive = -slope.mean() / w.mean(), -(w * slope).mean() / (w**2).mean()
    error = float((slope + STEP * w).std() / w.mean()) / n**0.5
    assert abs(float(unbiased) - STEP) < 4 * error
    assert abs(float(naive) - STEP) > 20 * error


def test_draws_by_glass_have_the_gradient_in_the_limit_of_many_steps():
    bed, n = bed_e(), 4000
    flow, states, s = fm.FlowMap(Constant(bed.law)), torch.full((n, 1), X).double(), torch.full((n, 1), T).double()
    method = fm.methods.tilting(row_reward, 1.0, bed.law, steps=16, draws=2, diagonal=1.0)
    [term] = method.terms
    torch.manual_seed(0)
    pair = term.draw(fm.velocity.Pair(states, states, bed.law.path, {}), times=(s[:, 0], s[:, 0]))
    found = 2 * term.rule(flow, fm.velocity.fixed(bed.law)(flow, pair), states, s, s, **pair.numbers).detach()
    # p(x0|x) = N(x, 1/2): V = x + 1/4, c grad V = -1 and E w = e^{x + 1/4}
    exact = 2 * math.exp(X + 0.25)
    assert abs(float(found.mean()) - exact) < 4 * float(found.std()) / n**0.5 + 0.02 * exact


def test_tilting_is_the_formula():
    """Value and gradient on a learned network, with labels, against plain torch."""
    torch.manual_seed(0)
    reference = fm.FlowMap(fm.networks.MLP((2,), width=16, depth=2, classes=3)).double()
    posterior = fm.FlowMap(fm.networks.StateInput(fm.networks.MLP((5,), width=16, depth=2, classes=3))).double()
    flow = fm.FlowMap(fm.networks.MLP((2,), width=16, depth=2, classes=3)).double()
    for one in (reference, posterior, flow):
        for weight in one.parameters():
            nn.init.normal_(weight, std=0.3)
    x0, eps, label = randn(6, 2), randn(6, 2, seed=1), torch.arange(6) % 3
    s = torch.full((6,), 0.6, dtype=torch.float64)
    reward = lambda x0: -(x0**2).sum(1)  # noqa: E731
    method = fm.methods.tilting(reward, 0.5, reference, posterior=posterior, draws=2, diagonal=1.0)
    torch.manual_seed(3)
    loss = method.loss(flow, x0, label, noise=eps, times=(s, s))
    torch.manual_seed(3)
    e = torch.randn(6, 2, 2, dtype=torch.float64)

    x = (0.4 * x0 + 0.6 * eps).requires_grad_()
    w = 0.0
    for k in range(2):
        jump = posterior.given(label=label, state=x, at=s)(e[:, k], 1.0, 0.0)
        w = w + (reward(jump) / 0.5).exp() / 2
    (slope,) = torch.autograd.grad(w.sum(), x)
    with torch.no_grad():
        v = reference.given(label=label).velocity(x, s)
    d = flow.given(label=label).velocity(x.detach(), s) - v
    w = w.detach()[:, None]
    residual = d + (w - 1) * d.detach() + 1.5 * slope  # c = -b = -0.6/0.4
    by_hand = residual.square().mean()
    torch.testing.assert_close(loss.value, by_hand)
    weights = list(flow.parameters())
    for a, b in zip(torch.autograd.grad(loss.value, weights), torch.autograd.grad(by_hand, weights), strict=True):
        torch.testing.assert_close(a, b)
    assert all(weight.grad is None for one in (reference, posterior) for weight in one.parameters())


def test_the_reference_is_a_copy_and_jumps_are_trained_too():
    flow = fm.FlowMap(fm.networks.MLP((2,), width=16, depth=2))
    method = fm.methods.tilting(row_reward, 1.0, flow)
    data = fm.data.as_data(torch.randn(300, 2), standardise=False)
    before = [weight.detach().clone() for weight in flow.parameters()]
    for state in fm.train(flow, method, data, steps=3, batch_size=32, progress_bar=False, trackers=()):
        assert set(state.loss.terms) == {"tilted", "lagrangian"} and state.loss.value.isfinite()
    reference = method.terms[0].velocity.teacher
    assert all(torch.equal(a, b) for a, b in zip(before, reference.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, flow.parameters(), strict=True))


def test_tilted_is_on_the_diagonal():
    from flowmaps.consistency import is_diagonal

    assert is_diagonal(tilted_rule)


# --- direct backpropagation -------------------------------------------------------------------------------------------


class Moved(nn.Module):
    """A map whose jump is a reference's plus a free shift of every row."""

    def __init__(self, exact, shift):
        super().__init__()
        self.exact, self.shift = exact, nn.Parameter(shift)

    def forward(self, x, s, t):
        return self.exact.average_velocity(x, s, t) + self.shift / (t - s)[:, None]


def test_direct_backpropagation_translates_and_does_not_reweigh():
    """Row 22: the gradient vanishes where every sample is moved by c/(2 beta), and the modes keep 0.6 and 0.4."""
    bed, beta, n = bed_g(), 0.8, 2000
    noise = randn(n, 1)
    exact = bed.law.flow_map(noise, 1.0, 0.0, tolerance=1e-6)
    table = dict.fromkeys(["average_velocity"], lambda x, s, t: (exact - noise) / (t - s).reshape(-1, 1))
    reference = flow_of(type("Reference", (), {**{k: staticmethod(v) for k, v in table.items()}, "path": bed.law.path}))
    flow = fm.FlowMap(Moved(reference.network.exact, torch.full((n, 1), 1 / (2 * beta), dtype=torch.float64)))
    method = fm.methods.reward_backpropagation(row_reward, beta, reference)
    method.loss(flow, torch.zeros(n, 1).double(), noise=noise).value.backward()
    assert float(flow.network.shift.grad.abs().max()) * n < 1e-6
    x0 = flow(noise, 1.0, 0.0).detach()
    torch.testing.assert_close(x0, exact + 1 / (2 * beta))
    right = float((x0 - 1 / (2 * beta) > 0).double().mean())
    assert abs(right - 0.4) < 4 * (0.24 / n) ** 0.5
    assert float(bed.tilted[0].weights[1]) == pytest.approx(0.957, abs=1e-3)
    elsewhere = fm.FlowMap(Moved(reference.network.exact, torch.zeros(n, 1, dtype=torch.float64)))
    method.loss(elsewhere, torch.zeros(n, 1).double(), noise=noise).value.backward()
    assert float(elsewhere.network.shift.grad.abs().min()) * n > 0.5


# --- policy gradients -------------------------------------------------------------------------------------------------


class Shifted(nn.Module):
    """The map of N(0, 1) with every jump moved by one number."""

    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))
        self.exact = fm.exact.Gaussian([0.0], 1.0)

    def forward(self, x, s, t):
        return self.exact.average_velocity(x, s, t) + self.shift / (t - s)[:, None]


def grpo_gradients(n, shift=0.0, beta=1.0, width=0.1, reward=row_reward):
    """Gradient of each loss of GRPO with respect to the shift, for each row."""
    flow, reference = fm.FlowMap(Shifted(shift)), fm.FlowMap(Shifted())
    method = fm.methods.grpo(reward, beta, reference, steps=2, width=width)
    torch.manual_seed(0)
    terms = method.loss(flow, torch.zeros(n, 1).double()).terms
    return {
        name: torch.autograd.grad(term.value, flow.network.shift, retain_graph=True)[0] for name, term in terms.items()
    }, terms


def test_the_policy_gradient_misses_the_last_jump():
    """Row 22: two jumps at t = 1/2 of N(0, 1), r = x: the score-function part is 0.7071 of 1.7071, pathwise adds 1."""
    n = 100_000
    found, terms = grpo_gradients(n)
    # the row's part is (x - mean) z with x = 0.7071 (z_0 + z), a standard deviation of about 1.22
    assert abs(float(-found["policy"]) - 0.5**0.5) < 4 * 1.6 / n**0.5
    assert float(-found["pathwise"]) == pytest.approx(1.0, abs=1e-6)
    assert terms["divergence"].value == 0


def test_the_divergence_of_a_rollout_is_that_of_its_gaussians():
    """A shift d: |alpha d|^2/(2 sigma^2) of the transition and d^2/(2 width^2) of the last jump, times beta."""
    _, terms = grpo_gradients(1000, shift=0.3, beta=2.0, width=0.5)
    transition, last = 0.3**2 / 2, 0.3**2 / (2 * 0.25)
    assert float(terms["divergence"].value.detach()) == pytest.approx(2 * (transition + last), rel=1e-9)


def test_the_record_of_training_has_the_jumps_of_a_rollout(recwarn):
    flow = fm.FlowMap(fm.networks.MLP((2,), width=8, depth=1))
    data = fm.data.as_data(torch.randn(100, 2), standardise=False)
    method = fm.methods.grpo(row_reward, 1.0, flow, steps=3)
    for state in fm.train(flow, method, data, steps=2, batch_size=16, progress_bar=False, trackers=()):
        assert state.loss.value.isfinite()
    fm.sample(state.flow, torch.randn(4, 2), 3, step=fm.steps.restart)
    assert flow.trained.source is None and flow.trained.target == 0 and not recwarn.list


def test_wrong_rewards_are_refused():
    flow, x0 = fm.FlowMap(fm.networks.MLP((2,), width=8, depth=1)), torch.randn(4, 2)
    wide, flat = (lambda x0: x0), (lambda x0: x0.detach().sum(1))
    for method in (
        fm.methods.tilting(wide, 1.0, flow),
        fm.methods.reward_backpropagation(wide, 1.0, flow),
        fm.methods.grpo(wide, 1.0, flow),
    ):
        with pytest.raises(ValueError, match=r"shape \("):
            method.loss(flow, x0)
    with pytest.raises(ValueError, match="no gradient"):
        fm.methods.tilting(flat, 1.0, flow).loss(flow, x0)
    assert fm.methods.tilting(flat, 1.0, flow, by_gradient=False).loss(flow, x0).value.isfinite()
    for build in (fm.methods.tilting, fm.methods.reward_backpropagation, fm.methods.grpo):
        with pytest.raises(TypeError, match="function"):
            build(3.0, 1.0, flow)
        with pytest.raises(ValueError, match="beta"):
            build(row_reward, 0.0, flow)
    with pytest.raises(TypeError, match="velocity"):
        fm.methods.tilting(row_reward, 1.0, None)
    with pytest.raises(TypeError, match="jumps"):
        fm.methods.grpo(row_reward, 1.0, None)
    with pytest.raises(ValueError, match="two rows"):
        fm.methods.grpo(row_reward, 1.0, flow).loss(flow, x0[:1])


# --- with the wing of steering ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lmd", "emd", "pfmm"])
def test_a_tilt_of_a_learned_map_is_a_teacher(name):
    """The student gets gradients, the steered map none; labels go through; the teacher is the tilt's velocity."""
    torch.manual_seed(0)
    base, flow = (fm.FlowMap(fm.networks.MLP((2,), width=16, depth=1, classes=3)) for _ in range(2))
    for weight in base.parameters():
        nn.init.normal_(weight, std=0.3)
    teacher = fm.steering.tilt(base, fm.steering.value(fm.rewards.Linear(torch.tensor([1.0, 0.5]))))
    loss = getattr(fm.methods, name)(teacher=teacher).loss(flow, torch.randn(9, 2), torch.arange(9) % 3)
    loss.value.backward()
    assert all(weight.grad is None for weight in base.parameters())
    assert any(weight.grad is not None and bool(weight.grad.any()) for weight in flow.parameters())


def test_an_exact_tilt_teaches_the_map_of_the_tilted_law():
    """The library's own tilts of N(0, 1) by bed E's reward: the map of N(1, 1/2) has no residual."""
    law, right = fm.exact.Gaussian([0.0], 1.0), flow_of(fm.exact.Gaussian([1.0], math.sqrt(0.5)))
    reward = fm.rewards.Likelihood(1.0, torch.tensor([2.0], dtype=torch.float64), std=1.0)
    s, t = torch.linspace(0.9, 0.4, 12).double(), torch.linspace(0.3, 0.05, 12).double()
    for teacher in (
        fm.steering.exact_tilt(law, reward),
        fm.steering.tilt(law, fm.steering.value(reward, fm.look.widened(1.0))),
    ):
        loss = fm.methods.lmd(teacher=teacher).loss(right, randn(12, 1), times=(s, t))
        assert float(loss.value.detach()) < 1e-18


class OfVelocity(nn.Module):
    """A network that predicts the velocity of a law plus a learned change."""

    def __init__(self, law):
        super().__init__()
        self.law, self.change = law, fm.networks.MLP((1,), width=64, depth=2)

    def forward(self, x, s, t):
        return self.law.velocity(x, s) + self.change(x, s, t)


@pytest.mark.slow
@pytest.mark.parametrize("by_gradient", [True, False])
def test_tilting_trains_the_tilted_law(by_gradient):
    """Bed G: the weights of its modes move from 0.6 and 0.4 to 0.043 and 0.957, and the objective nears the bound."""
    bed = bed_g()
    law = fm.exact.GaussianMixture(bed.law.weights.float(), bed.law.means.float(), bed.law.stds.float())
    torch.manual_seed(0)
    flow = fm.FlowMap(OfVelocity(law))
    method = fm.methods.tilting(
        row_reward, 1.0, law, steps=8, draws=2, diagonal=1.0, by_gradient=by_gradient, center=2.0
    )
    data = fm.data.as_data(law.sample(20_000), standardise=False)
    options = {"lr": 4e-3, "batch_size": 256, "ema": 0.98, "progress_bar": False, "trackers": ()}
    for state in fm.train(flow, method, data, steps=400, **options):  # noqa: B007
        pass
    z = torch.randn(4000, 1, requires_grad=True)
    x = z
    for k in range(60):
        x = fm.steps.heun(state.ema, x, 1 - k / 60, 1 - (k + 1) / 60)
    (stretch,) = torch.autograd.grad(x.sum(), z)
    x, normal = x.detach(), torch.distributions.Normal(0.0, 1.0)
    log_q = (normal.log_prob(z.detach()) - stretch.abs().log())[:, 0]
    found = fm.evaluate.reward_bound(row_reward, 1.0, x, law.sample(100_000), log_ratio=log_q - law.log_prob(x))
    assert abs(float((x > 0).double().mean()) - 0.957) < 0.06
    exact = float(bed.tilted[1])
    assert exact - 0.15 < found.objective.value < found.bound.value + 4 * (found.bound.stderr + found.objective.stderr)


# --- costs, and training of parts -------------------------------------------------------------------------------------


def test_the_passes_of_a_step_are_what_is_counted():
    """Section 5 of the specification: matrix products of a step, in units of a forward pass.

    A flow's value and backward pass are 3, a reference's value is 1, a draw and its gradient with respect to x are 2.
    """
    torch.manual_seed(0)
    flow, posterior = fm.FlowMap(Wide()), fm.FlowMap(fm.networks.StateInput(Wide(inputs=5)))
    reward = row_reward
    tilting = dict(diagonal=1.0, posterior=posterior)
    for method, expected in (
        (fm.methods.tilting(reward, 1.0, flow, draws=1, **tilting), 3 + 1 + 2),
        (fm.methods.tilting(reward, 1.0, flow, draws=3, **tilting), 3 + 1 + 6),
        (fm.methods.tilting(reward, 1.0, flow, draws=2, diagonal=1.0, steps=3), 3 + 1 + 12),
        (fm.methods.reward_backpropagation(reward, 1.0, flow), 3 + 1),
        (fm.methods.grpo(reward, 1.0, flow, steps=3), 3 * (3 + 1)),
    ):
        assert passes(method, flow) == pytest.approx(expected, abs=0.15), method.name


class Wide(nn.Module):
    """Six wide layers between thin ends."""

    def __init__(self, inputs=2, width=160):
        super().__init__()
        self.input, self.output = nn.Linear(inputs + 2, width), nn.Linear(width, inputs)
        self.inner = nn.ModuleList(nn.Linear(width, width) for _ in range(6))

    def forward(self, x, s, t):
        h = self.input(torch.cat([x, s[:, None], t[:, None]], 1))
        for layer in self.inner:
            h = layer(torch.tanh(h))
        return self.output(torch.tanh(h))


@pytest.mark.slow
def test_low_rank_adapters_alone_are_trained():
    """With LoRA the reference is the map before training; it shares the frozen weights."""
    from flowmaps.integrations.peft import lora

    torch.manual_seed(0)
    base = fm.FlowMap(fm.networks.MLP((2,), width=16, depth=2))
    for weight in base.parameters():
        nn.init.normal_(weight, std=0.3)
    flow = lora(fm.student(base), 2)
    data = fm.data.as_data(torch.randn(200, 2), standardise=False)
    options = {"steps": 3, "batch_size": 16, "lr": 1e-2, "progress_bar": False, "trackers": ()}
    before = {name: (weight.detach().clone(), weight.requires_grad) for name, weight in flow.named_parameters()}
    for build in (fm.methods.grpo, fm.methods.tilting, fm.methods.reward_backpropagation):
        method = build(row_reward, 1.0, flow)
        x = torch.randn(4, 2)
        known = method.terms[0].velocity.teacher(x, 1.0, 0.0)
        for state in fm.train(flow, method, data, **options):
            assert state.loss.value.isfinite()
        assert torch.equal(method.terms[0].velocity.teacher(x, 1.0, 0.0), known)
    moved = {name for name, weight in flow.named_parameters() if not torch.equal(weight, before[name][0])}
    assert moved and all(before[name][1] for name in moved)
