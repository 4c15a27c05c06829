"""Times of rows and per frame: their shapes, and the maps, losses and rules that take them."""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import times as drawn
from flowmaps.consistency import compositional, cycle, diffusion, eulerian, lagrangian
from flowmaps.derivative import difference_to, finite_difference, jvp
from flowmaps.path import VariancePreserving, expand, expand_frames
from flowmaps.velocity import fixed, own
from tests.oracles import gaussian, randn

B, C, F, H, W = 4, 2, 3, 2, 2
SHAPE = (C, F, H, W)
STD = torch.tensor([0.3, 0.8, 1.5], dtype=torch.float64)[:, None, None].expand(SHAPE)
ROOT = torch.tensor([[0.9, 0.0, 0.0], [0.6, 0.5, 0.0], [-0.4, 0.5, 0.4]], dtype=torch.float64)


def frame_times(seed=1, axis=2, ndim=5):
    """Pairs (s, t) per frame in both directions, away from the ends."""
    s, t = 0.1 + 0.8 * torch.rand(2, B, F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    shape = [B, *(F if k == axis else 1 for k in range(1, ndim))]
    return s.reshape(shape), t.reshape(shape)


class Independent(nn.Module):
    """The exact average velocity of a Gaussian with independent frames."""

    frame_axis = 2

    def __init__(self, path=fm.path.linear):
        super().__init__()
        self.exact = fm.exact.Gaussian(torch.zeros(SHAPE, dtype=torch.float64), STD, path=path)
        self.error = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, s, t):
        s, t = (time[:, None, :, None, None] if time.ndim == 2 else time for time in (s, t))
        return self.exact.average_velocity(x, s, t) + self.error * x * x


class Dependent(nn.Module):
    """The exact average velocity of N(0, ROOT ROOT^T) over the frames of sequences (B, F, 1), by its ODE.

    Times run straight from s to t, so dx/du = (t - s) v(x, s + u (t - s)), with v = (1/tau) (x - C A K^-1 x) for
    A = diag(1 - tau) and K = A C A + diag(tau^2), which is linear in x: Runge-Kutta steps of a matrix."""

    frame_axis = 1

    def forward(self, x, s, t):
        s, t = (time if time.ndim == 2 else time[:, None] + 0 * x[..., 0] for time in (s, t))
        return self.change(s, t, x)

    def change(self, s, t, x):
        y, mean, steps = x, 0, 40
        for k in range(steps):
            slopes, u = [], k / steps
            for share, at in ((0, 0), (0.5, 0.5), (0.5, 0.5), (1, 1)):
                here = y + share / steps * ((t - s)[..., None] * slopes[-1]) if slopes else y
                slopes.append(velocity(here, s + (u + at / steps) * (t - s)))
            step = (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3]) / (6 * steps)
            y, mean = y + (t - s)[..., None] * step, mean + step
        return mean


def velocity(x, tau):
    """E[eps - x_0 | x_tau = x] over the frames, with a time tau (B, F) of each."""
    covariance, alpha = ROOT @ ROOT.T, torch.diag_embed(1 - tau)
    noise = torch.diag_embed(tau)
    K = torch.matmul(torch.matmul(alpha, covariance), alpha) + torch.matmul(noise, noise)
    return torch.matmul(noise - torch.matmul(covariance, alpha), torch.linalg.solve(K, x))


def test_shapes():
    x = torch.zeros(B, *SHAPE)
    s, _ = frame_times()
    assert expand_frames(s, x).shape == (B, 1, F, 1, 1) and expand_frames(s, x).dtype == torch.float32
    torch.testing.assert_close(expand_frames(s[:1], x), s[:1].float().expand(B, 1, F, 1, 1))
    assert expand_frames(0.3, x).shape == expand_frames(torch.rand(B), x).shape == (B, 1, 1, 1, 1)
    for wrong in (s[..., None], s[:2], s.expand(B, C, F, 1, 1), s[:, :, :2], s.squeeze()):
        with pytest.raises(ValueError, match="a time must be a number"):
            expand_frames(wrong, x)
    with pytest.raises(ValueError, match="a time must be a number"):
        expand(s, x)  # the strict one, of parts that take times of rows alone


@pytest.mark.parametrize("path", [fm.path.linear, VariancePreserving(0.1, 6.0)], ids=["linear", "preserving"])
def test_independent_frames_have_the_maps_of_single_frames(path):
    flow, (s, t), x = fm.FlowMap(Independent(path), path=path), frame_times(), randn(B, *SHAPE)
    single = [fm.exact.Gaussian(torch.zeros((C, H, W)).double(), STD[:, k], path=path) for k in range(F)]
    maps = [one.flow_map(x[:, :, k], s[:, 0, k, 0, 0], t[:, 0, k, 0, 0]) for k, one in enumerate(single)]
    torch.testing.assert_close(flow(x, s, t), torch.stack(maps, 2))
    clean = [one.denoise(x[:, :, k], s[:, 0, k, 0, 0]) for k, one in enumerate(single)]
    torch.testing.assert_close(flow.denoise(x, s), torch.stack(clean, 2))
    torch.testing.assert_close(flow.network.exact.denoise(x, s), torch.stack(clean, 2))
    half = flow(x, s, 0.25)  # a time of rows beside times per frame
    torch.testing.assert_close(half, flow(x, s, torch.full_like(s, 0.25)))
    same = torch.full((B, 1, F, 1, 1), 0.6, dtype=torch.float64)
    torch.testing.assert_close(flow(x, same, 0.25), flow(x, 0.6, 0.25))


@pytest.mark.parametrize(
    "output", [fm.Endpoint(), fm.Position(0.7), fm.Rotation(0.7), fm.Bounded(low=-9, high=9)], ids=str
)
def test_outputs_treat_frames_apart(output):
    network = Independent()
    flow, (s, t), x = fm.FlowMap(network, output), frame_times(), randn(B, *SHAPE)
    together, field = flow(x, s, t), flow.field(x, s, t)
    for k in range(F):
        row = s[:, :, k, 0, 0], t[:, :, k, 0, 0]
        alone, denoised = flow(x, *(time.reshape(B) for time in row)), flow.field(x, *(time.reshape(B) for time in row))
        torch.testing.assert_close(together[:, :, k], alone[:, :, k])
        torch.testing.assert_close(field[:, :, k], denoised[:, :, k])


def test_the_loss_is_the_mean_of_the_losses_of_frames():
    """A weight of the interval, which sees each frame's own times; the map is wrong, so that it is not zero."""
    flow, (s, t), x0, eps = fm.FlowMap(Independent()), frame_times(), randn(B, *SHAPE), randn(B, *SHAPE, seed=2)
    nn.init.constant_(flow.network.error, 0.3)
    weight = fm.weight.by_interval(lambda s, t: (1 + s) * (t - s) ** 2, fm.weight.adaptive(0.5))
    teacher = flow.network.exact
    terms = [
        fm.Term(rule, velocity, weight=weight)
        for rule, velocity in ((lagrangian, fixed(teacher)), (eulerian, fixed(teacher)), (compositional, own))
    ]
    terms.append(fm.Term(diffusion, weight=fm.weight.by_interval(lambda s, t: 1 + s)))
    for term in terms:
        method = fm.Method(term)
        loss = method.loss(flow, x0, noise=eps, times=(s, t))
        (found,) = loss.terms.values()
        assert found.residual.shape == (B * F, C, H, W) and found.s.shape == found.t.shape == (B * F,)
        frames = []
        for k in range(F):
            s_k, t_k = s[:, 0, k, 0, 0], t[:, 0, k, 0, 0]
            (alone,) = method.loss(flow, x0, noise=eps, times=(s_k, t_k)).terms.values()
            frames.append(term.weight(alone.residual[:, :, k], s_k, t_k).mean())
        torch.testing.assert_close(loss.value, torch.stack(frames).mean())
        assert loss.value > 1e-3


@pytest.mark.parametrize(
    "rule", [diffusion, compositional, lagrangian, eulerian, cycle], ids=lambda rule: rule.__name__
)
def test_rules_are_zero_at_a_map_of_dependent_frames(rule):
    """Frames that know of each other: a derivative along equal rates of all frames is wrong, and leaves a residual."""
    exact, x = Dependent(), randn(B, F, 1, seed=3)
    flow = fm.FlowMap(exact)
    s, t = frame_times(axis=1, ndim=3)

    class Teacher:
        def velocity(self, x, t):
            return velocity(x, t.expand(B, F, 1)[..., 0])

        average_velocity = staticmethod(flow.average_velocity)

    options = {"derivative": finite_difference(1e-3)} if rule in (lagrangian, eulerian) else {}
    found = rule(flow, Teacher(), x, s, t, **options)
    assert found.abs().max() < 2e-5
    if options:
        gap = t - s
        tangents = (0, 0, 1) if rule is lagrangian else (velocity(x, s[..., 0]), 1, 0)
        V, dV = options["derivative"](flow.average_velocity, (x, s, t), tangents)
        right = (
            Teacher().velocity(x + gap * V, t) - gap * dV if rule is lagrangian else Teacher().velocity(x, s) + gap * dV
        )
        assert (V - right).abs().max() > 0.03


def test_a_derivative_by_dual_numbers_is_the_one_of_differences():
    flow, (s, t), x = fm.FlowMap(Independent()), frame_times(), randn(B, *SHAPE)
    tangents = (randn(B, *SHAPE, seed=5), t - s, 0)
    (_, exact), (_, near) = (
        mode(flow.average_velocity, (x, s, t), tangents) for mode in (jvp, finite_difference(1e-3))
    )
    torch.testing.assert_close(exact, near, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="one time a row, and these are times per frame"):
        difference_to(lambda time: time / 2)(flow.average_velocity, (x, s, t), (0, 0, 1))


def test_training_draws_times_per_frame():
    """Two frames of one row have different times, and a causal order is kept by both ends of the jump."""
    data = fm.data.as_data(torch.randn(16, *SHAPE))
    flow, seen = fm.FlowMap(Independent()).float(), []

    def noted(residual, s, t):
        seen.append((s.reshape(-1, F), t.reshape(-1, F)))
        return residual.square().flatten(1).mean(1)

    times = drawn.per_frame(drawn.uniform_triangle(), axis=2, arrange=drawn.rising)
    for _ in fm.train(
        flow, fm.methods.meanflow(times=times, weight=noted), data, steps=2, batch_size=8, progress_bar=False
    ):
        pass
    s, t = seen[-1]
    assert (s.diff(dim=1) > 0).all() and (t.diff(dim=1) > 0).all() and (t < s).all()
    torch.manual_seed(0)
    s, t = drawn.per_frame(drawn.uniform_triangle(), axis=2)(4000, 0.0, torch.zeros(2, *SHAPE))
    assert s.shape == t.shape == (4000, 1, F, 1, 1) and (t <= s).all()
    assert abs(s.mean() - 2 / 3) < 4 * (1 / 18) ** 0.5 / 12_000**0.5  # the law of one frame; four standard errors
    assert torch.corrcoef(s.reshape(-1, F).T).triu(1).abs().max() < 4 / 4000**0.5


def test_a_network_that_writes_into_its_buffers_takes_times_per_frame():
    class Normed(Independent):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm3d(C).double()

        def forward(self, x, s, t, label):
            return self.norm(super().forward(x, s, t))

    flow = fm.FlowMap(Normed())
    times = drawn.per_frame(drawn.uniform_triangle(), axis=2)
    fm.methods.flow_matching(times=times).loss(flow, randn(B, *SHAPE), torch.arange(B))
    assert flow.network.norm.num_batches_tracked == 1


def test_refusals():
    s, t = frame_times()
    x, exact = randn(B, *SHAPE), fm.exact.Gaussian(torch.zeros(SHAPE, dtype=torch.float64), STD)
    plain = fm.FlowMap(fm.networks.MLP(SHAPE).double())
    with pytest.raises(ValueError, match="along axis 2 of x, and the network, a MLP, does not take them"):
        plain(x, s, t)
    skip = fm.FlowMap(Independent(), fm.GaussianSkip.fit(randn(40, *SHAPE)))
    with pytest.raises(ValueError, match="is no formula of single numbers"):
        skip(x, s, t)
    with pytest.raises(ValueError, match="differ along the axes"):
        fm.FlowMap(Independent())(x, s, frame_times(axis=3)[1][:, :, :1, :2])
    flow = fm.FlowMap(Independent())
    with pytest.raises(ValueError, match="outside|must lie in"):
        flow(x, s + 1, t)
    for method, reason in (
        (fm.methods.soflow(), "one time a row, and these are times per frame"),
        (fm.methods.cd(exact), "one time a row, and these are times per frame"),
        (fm.methods.imm(), "times differ within a block"),
    ):
        with pytest.raises(ValueError, match=reason):
            method.loss(flow, x, times=(s, t))
    rollout = fm.methods.on_policy(fm.methods.lmd(exact))
    with pytest.raises(ValueError, match="starts at states of a sampler with one time a row"):
        rollout.loss(flow, x, times=(s, t))
    with pytest.raises(ValueError, match="the teacher refuses this call"):
        wide = fm.exact.Gaussian(covariance=torch.eye(24, dtype=torch.float64))
        fixed(wide)(flow, fm.velocity.Pair(x.flatten(1), x.flatten(1), flow.path, {})).velocity(
            x.flatten(1), torch.rand(B, 24)
        )
    with pytest.raises(ValueError, match="a time must be a number"):
        gaussian().velocity(randn(B, 3), torch.rand(B, 3))
    frames = drawn.per_frame(drawn.gap(), 2)
    for wrong in (lambda: drawn.with_diagonal(frames, 0.5), lambda: drawn.clocked(frames, torch.square)):
        with pytest.raises(ValueError, match="apply it first, and per_frame to its result"):
            wrong()
    with pytest.raises(ValueError, match="plain sampler of one frame"):
        drawn.per_frame(fm.velocity.LearnedClock(), 2)
    with pytest.raises(ValueError, match="need rows with this axis"):
        frames(4, 0.0, torch.zeros(4, 2))
