"""Variational flow maps: the bound and its gap against quadrature, row 13 of the acceptance table."""

import math

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.methods import NoiseAdapter
from tests.oracles import flow_of, quantile, randn

STD = 1.0
LAW = fm.exact.GaussianMixture([0.5, 0.5], [-2.0, 2.0], 0.5)
POINTS = torch.linspace(-8, 8, 4001, dtype=torch.float64)


class Table(nn.Module):
    """The jump from noise to data of LAW, the monotone rearrangement, as a differentiable table."""

    def __init__(self):
        super().__init__()
        z = torch.linspace(-6, 6, 4001, dtype=torch.float64)
        p = 0.5 * torch.erfc(-z / math.sqrt(2))
        self.register_buffer("z", z)
        self.register_buffer("x0", quantile(LAW, p, 0.0))

    def forward(self, x, s, t):
        z, x0 = self.z.to(x), self.x0.to(x)
        cell = ((x.detach() - z[0]) / (z[1] - z[0])).long().clamp(0, len(z) - 2)
        slope = (x0[cell + 1] - x0[cell]) / (z[1] - z[0])
        jump = x0[cell] + slope * (x - z[cell])
        return (jump - x) / (t - s)[:, None]


def flow():
    return fm.FlowMap(Table(), only_source=1.0)


class Fixed(nn.Module):
    """An adapter's network with one mean and one logarithm for all rows."""

    def __init__(self, mean=0.0, log_std=0.0):
        super().__init__()
        self.both = nn.Parameter(torch.tensor([[mean, log_std]], dtype=torch.float64))

    def forward(self, y):
        return self.both.expand(len(y), 2)


def evidence(y):
    """log p(y) in closed form."""
    parts = torch.distributions.Normal(torch.tensor([-2.0, 2.0]).double(), math.sqrt(0.25 + STD**2))
    return float(torch.logsumexp(parts.log_prob(torch.tensor(y).double()), 0) + math.log(0.5))


def gap(y, mean, log_std, jump):
    """log p(y) minus the bound of N(mean, exp(log_std)^2), by quadrature over z."""
    q = torch.distributions.Normal(mean, log_std.exp())
    log_q = q.log_prob(POINTS)
    joint = torch.distributions.Normal(0.0, 1.0).log_prob(POINTS) + torch.distributions.Normal(jump, STD).log_prob(
        torch.tensor(y).double()
    )
    return evidence(y) - (log_q.exp() * (joint - log_q)).sum() * (POINTS[1] - POINTS[0])


def least_gap(y, jump):
    """The smallest gap of a Gaussian, from several starts."""
    best = math.inf
    for start in (-1.0, 0.0, 1.0):
        both = torch.tensor([start, -0.7], dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.LBFGS([both], max_iter=60, line_search_fn="strong_wolfe")

        def closure(both=both, optimizer=optimizer):
            optimizer.zero_grad()
            value = gap(y, both[0], both[1], jump)
            value.backward()
            return value

        optimizer.step(closure)
        best = min(best, float(gap(y, *both.detach(), jump)))
    return best


def jump_of_points():
    with torch.no_grad():
        return flow()(POINTS[:, None], 1.0, 0.0)[:, 0]


@pytest.mark.parametrize(("y", "log_p", "least"), [(0.0, -2.6305, 0.054), (2.0, -1.7220, 0.184)])
def test_the_gap_of_a_frozen_map_is_that_of_quadrature(y, log_p, least):
    """Row 13: log p(y) and the smallest gap; and the loss is the bound, within 4 standard errors."""
    jump = jump_of_points()
    assert abs(evidence(y) - log_p) < 1e-4
    assert abs(least_gap(y, jump) - least) < 2e-3
    torch.manual_seed(0)
    n = 40_000
    method = fm.methods.variational(NoiseAdapter(Fixed(0.4, -0.5)), lambda x0: x0, STD)
    loss = method.loss(flow(), torch.zeros(n, 1).double(), {"y": torch.full((n, 1), y).double()})
    bound = evidence(y) - float(gap(y, torch.tensor(0.4).double(), torch.tensor(-0.5).double(), jump))
    rows = (loss.terms["observation"].residual + loss.terms["divergence"].residual).detach()
    assert abs(-float(loss.value.detach()) - bound) < 4 * float(rows.std()) / n**0.5


def test_the_gap_vanishes_for_a_linear_map():
    """Gaussian data: the law of the noise given y is a Gaussian, which the adapter can be."""
    law = fm.exact.Gaussian([0.5], 1.5)
    flow, n = flow_of(law), 20_000
    precision = 1 + 1.5**2 / STD**2
    mean, y = 1.5 * (2.0 - 0.5) / STD**2 / precision, torch.full((n, 1), 2.0).double()
    torch.manual_seed(0)
    method = fm.methods.variational(NoiseAdapter(Fixed(mean, -0.5 * math.log(precision))), lambda x0: x0, STD)
    loss = method.loss(flow, torch.zeros(n, 1).double(), {"y": y})
    log_p = float(torch.distributions.Normal(0.5, math.sqrt(1.5**2 + STD**2)).log_prob(torch.tensor(2.0)))
    rows = (loss.terms["observation"].residual + loss.terms["divergence"].residual).detach()
    assert abs(-float(loss.value.detach()) - log_p) < 4 * float(rows.std()) / n**0.5


@pytest.mark.slow
def test_a_trained_adapter_is_near_the_best_gap():
    """Row 13: an adapter of all y, trained on measurements of data, within 0.02 nats of the best Gaussian's gap."""
    torch.manual_seed(0)
    adapter = NoiseAdapter(nn.Sequential(nn.Linear(1, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2)))
    data = fm.data.with_measurement(
        fm.data.as_data(LAW.sample(20_000, torch.Generator().manual_seed(0)).float(), standardise=False),
        lambda x0: x0,
        STD,
    )
    fixed, method = flow(), fm.methods.variational(adapter, lambda x0: x0, STD)
    method.follow(fixed)
    optimizer = torch.optim.Adam(adapter.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1000)
    for _, batch in zip(range(1000), data.batches(256, seed=0), strict=False):
        optimizer.zero_grad()
        method.loss(fixed, batch.x0, dict(batch.given)).value.backward()
        optimizer.step()
        schedule.step()
    jump = jump_of_points()
    for y, best in ((0.0, 0.054), (2.0, 0.184)):
        mean, log_std = (part.detach().double()[0, 0] for part in adapter.law(torch.tensor([[y]])))
        assert float(gap(y, mean, log_std, jump)) < best + 0.02
    z = adapter.sample(torch.full((2000, 1), 2.0), torch.Generator().manual_seed(0))
    assert abs(float(fm.sample(fixed, z).mean()) - 1.94) < 0.15


def joint(adapter, **options):
    return fm.methods.variational(adapter, lambda x0: x0[:, :1], 0.5, **{"tau": 2.0, **options})


def test_the_joint_loss_is_the_formula():
    """Value and gradients against plain torch, for the adapter and the flow."""
    torch.manual_seed(0)
    network = fm.networks.MLP((2,), width=16, depth=2).double()
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    adapter = NoiseAdapter(nn.Linear(1, 4).double())
    x0, eps, y = randn(8, 2), randn(8, 2, seed=1), randn(8, 1, seed=2)
    s, t = torch.full((8,), 1.0).double(), torch.full((8,), 0.0).double()
    flow = fm.FlowMap(network)
    loss = joint(adapter, tau=1.5, adapted=0.75).loss(flow, x0, {"y": y}, noise=eps, times=(s, t))

    V = lambda x, s, t: network(x, s, t)  # noqa: E731
    mean, log_std = adapter.law(y)
    z = mean + log_std.exp() * eps
    frozen = {name: value.detach() for name, value in network.named_parameters()}
    there = z - torch.func.functional_call(network, frozen, (z, s, t))
    constant = math.log(2 * math.pi) / 2 + math.log(0.5)
    by_hand = (((y - there[:, :1]) / 0.5) ** 2 / 2 + constant).mean()
    by_hand = by_hand + ((mean**2 + (2 * log_std).exp() - 1 - 2 * log_std).sum(1) / 2).mean()
    for noise, share in ((z, 0.75), (eps, 0.25)):
        u = noise - x0
        _, slope = torch.func.jvp(V, (noise, s, t), (u, torch.ones_like(s), torch.zeros_like(t)))
        mean_flow = ((V(noise, s, t) - u - (t - s)[:, None] * slope.detach()) ** 2).sum(1).mean()
        by_hand = by_hand + share * mean_flow / (2 * 1.5**2)
    torch.testing.assert_close(loss.value, by_hand / 2)
    weights = [*network.parameters(), *adapter.parameters()]
    for a, b in zip(torch.autograd.grad(loss.value, weights), torch.autograd.grad(by_hand / 2, weights), strict=True):
        torch.testing.assert_close(a, b)


def test_both_networks_train_and_wrong_parts_are_refused(tmp_path):
    torch.manual_seed(0)
    adapter = NoiseAdapter(nn.Linear(1, 4))
    data = fm.data.with_measurement(fm.data.as_data(torch.randn(500, 2), standardise=False), lambda x0: x0[:, :1], 0.5)
    assert data.given == ("y",)
    network = fm.networks.MLP((2,), width=16, depth=1)
    before = [[w.detach().clone() for w in part.parameters()] for part in (network, adapter)]
    options = {"batch_size": 32, "progress_bar": False, "trackers": (), "out": tmp_path / "run", "sample_every": 2}
    for state in fm.train(fm.FlowMap(network), joint(adapter), data, steps=3, **options):
        assert state.loss.value.isfinite()
    assert state.flow.trained.conditions == ()
    fm.sample(state.flow, adapter.sample(torch.zeros(4, 1)).detach())
    for old, part in zip(before, (network, adapter), strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old, part.parameters(), strict=True))
    flow = fm.FlowMap(network)
    frozen = fm.methods.variational(adapter, lambda x0: x0[:, :1], 0.5)
    before = [w.detach().clone() for w in network.parameters()]
    for state in fm.train(flow, frozen, data, steps=2, batch_size=32, progress_bar=False, trackers=()):  # noqa: B007
        pass
    assert flow.trained is None and all(map(torch.equal, before, network.parameters()))
    with pytest.raises(TypeError, match="NoiseAdapter"):
        fm.methods.variational(nn.Linear(1, 4), lambda x0: x0, 1.0)
    with pytest.raises(ValueError, match="std"):
        fm.methods.variational(adapter, lambda x0: x0, 0.0)
    with pytest.raises(TypeError, match="log std"):
        NoiseAdapter(lambda y: y)
    flow, x0 = fm.FlowMap(network), torch.randn(4, 2)
    with pytest.raises(ValueError, match="with_measurement"):
        fm.methods.variational(adapter, lambda x0: x0, 1.0).loss(flow, x0)
    with pytest.raises(ValueError, match="y has"):
        fm.methods.variational(adapter, lambda x0: x0, 1.0).loss(flow, x0, {"y": torch.zeros(4, 1)})
    with pytest.raises(ValueError, match="mean has the shape"):
        fm.methods.variational(NoiseAdapter(nn.Linear(1, 2)), lambda x0: x0, 1.0).loss(
            flow, x0, {"y": torch.zeros(4, 1)}
        )
    with pytest.raises(TypeError, match="measurement"):
        fm.data.WithMeasurement(None, 1.0)
