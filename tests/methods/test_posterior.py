"""Posterior maps: the true one has zero residual in every rule, gradients agree with torch, a small one learns."""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps.data import Batch, WithState
from flowmaps.data.transforms import BatchDraws
from flowmaps.exact import gaussian_average_velocity
from flowmaps.velocity import Glass
from tests.beds import bed_g
from tests.oracles import PATHS, randn

ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)


class OfGaussian(nn.Module):
    """The posterior map of N(0.5, 0.7^2) as a network, in closed form."""

    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, x, s, t, *, state, at):
        s, t, at = (time[:, None] for time in (s, t, at))
        precision = self.path.alpha(at) ** 2 / self.path.sigma(at) ** 2
        variance = 1 / (1 / 0.49 + precision)
        mean = variance * (0.5 / 0.49 + self.path.alpha(at) / self.path.sigma(at) ** 2 * state)
        return gaussian_average_velocity(x, s, t, self.path, mean, variance, None)


class OfMixture(nn.Module):
    """The posterior map of a mixture as a network, by the solver."""

    def __init__(self, law):
        super().__init__()
        self.law = law

    def forward(self, x, s, t, *, state, at):
        return self.law.posterior_of_data(state, at).average_velocity(x, s, t)


def with_states(law, n=12):
    x0 = law.sample(n, torch.Generator().manual_seed(0)).double()
    at = torch.linspace(0.1, 0.95, n, dtype=torch.float64)
    return x0, {"state": law.path.interpolate(x0, randn(n, 1, seed=1), at), "at": at}


def largest(loss):
    return max(float(term.residual.detach().abs().max()) for term in loss.terms.values())


@pytest.mark.parametrize("name", ["lmd", "emd", "meta_flow_map", "diamond"])
@ALL
def test_the_true_posterior_map_of_a_gaussian_has_no_residual(path, name):
    law = fm.exact.Gaussian([0.5], 0.7, path=path)
    x0, condition = with_states(law)
    flow = fm.FlowMap(OfGaussian(path), path=path)
    method = getattr(fm.methods, name)(teacher=law if name in ("meta_flow_map", "diamond") else Glass(law))
    s, t = torch.linspace(0.95, 0.4, 12).double(), torch.linspace(0.3, 0.05, 12).double()
    assert largest(method.loss(flow, x0, condition, noise=randn(12, 1, seed=2), times=(s, t))) < 1e-9
    torch.manual_seed(0)
    assert largest(method.loss(flow, x0, condition)) < 1e-6
    # a map of another law has one
    wrong = fm.exact.Gaussian([0.6], 0.7, path=path)
    method = getattr(fm.methods, name)(teacher=wrong if name in ("meta_flow_map", "diamond") else Glass(wrong))
    assert largest(method.loss(flow, x0, condition, times=(s, t))) > 1e-3


def test_the_true_posterior_map_of_a_mixture_has_no_residual():
    law = bed_g().law
    x0, condition = with_states(law, 6)
    flow, teacher = fm.FlowMap(OfMixture(law)), Glass(law)
    s, t = torch.linspace(0.95, 0.4, 6).double(), torch.linspace(0.3, 0.05, 6).double()
    for method, bound in (
        (fm.methods.psd(), 1e-7),
        (fm.Method(fm.Term(fm.consistency.diffusion, fm.velocity.fixed(teacher))), 1e-9),
    ):
        terms = method.loss(flow, x0, condition, times=(s, t)).terms
        residuals = [term.residual for name, term in terms.items() if name != "diffusion" or len(terms) == 1]
        assert max(float(r.abs().max()) for r in residuals) < bound


def test_meta_flow_maps_are_the_formula():
    """Value and gradient against plain torch, with the conditional velocity."""
    torch.manual_seed(0)
    network = fm.networks.StateInput(fm.networks.MLP((3,), width=16, depth=2)).double()
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.3)
    flow = fm.FlowMap(network)
    x0, state, eps = randn(8, 1), randn(8, 1, seed=1), randn(8, 1, seed=2)
    at, s, t = torch.rand(8).double(), torch.full((8, 1), 0.8).double(), torch.full((8, 1), 0.3).double()
    loss = fm.methods.meta_flow_map().loss(
        flow, x0, {"state": state, "at": at}, noise=eps, times=(s.flatten(), t.flatten())
    )

    def V(x, s, t):
        rows = torch.cat([x, state, at[:, None]], 1)
        return network.network(rows, s.flatten(), t.flatten())[:, :1]

    x = (1 - s) * x0 + s * eps
    value, slope = torch.func.jvp(lambda t: V(x, s, t), (t,), (torch.ones_like(t),))
    end = x + (t - s) * value
    by_hand = (V(x, s, s) - (eps - x0)).square().mean() / 2
    by_hand = by_hand + (value + (t - s) * slope - V(end, t, t).detach()).square().mean() / 2
    torch.testing.assert_close(loss.value, by_hand)
    weights = list(network.parameters())
    mine, theirs = torch.autograd.grad(loss.value, weights), torch.autograd.grad(by_hand, weights)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)


@ALL
def test_rows_carry_a_state_of_their_own(path):
    data = fm.data.with_state(fm.data.as_data(torch.randn(4000, 2), standardise=False), path, pure=0.25)
    assert data.given == ("state", "at")
    first, again = next(data.batches(2000, seed=3)), next(data.batches(2000, seed=3))
    assert torch.equal(first.given["state"], again.given["state"])
    state, at = first.given["state"], first.given["at"]
    share = float((at == 1).double().mean())
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    noise = (state - path.alpha(at)[:, None] * first.x0) / path.sigma(at)[:, None]
    assert abs(float(noise[at > 0.1].std()) - 1) < 0.05
    drawn = at[at < 1]  # t = 1 - U^2 has mean 2/3
    assert abs(float(drawn.mean()) - 2 / 3) < 4 * float(drawn.std()) / len(drawn) ** 0.5
    for batch in (data.draw(5), data.held_out(5)):
        assert batch.given["state"].shape == (5, 2) and batch.given["at"].shape == (5,)
    part = next(data.batches(2000, seed=3, rows=slice(1, None, 2)))
    assert torch.equal(part.given["state"], state[1::2])


def test_a_wrong_state_is_refused():
    with pytest.raises(ValueError, match="pure"):
        WithState(pure=1.5)
    draws = BatchDraws(3, slice(None), torch.Generator().manual_seed(0))
    assert WithState(pure=1.0)(Batch(torch.zeros(3, 2)), draws).given["at"].eq(1).all()
    network = fm.networks.StateInput(fm.networks.MLP(fm.networks.StateInput.shape_for(2), width=8, depth=1))
    with pytest.raises(ValueError, match="row for each"):
        network(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3), state=torch.zeros(2, 2), at=0.5)
    plain, x = fm.data.as_data(torch.randn(20, 2), standardise=False), torch.zeros(3, 2)
    with pytest.raises(ValueError, match="with_state"):
        fm.FlowMap(network)(x, 1.0, 0.0)
    with pytest.raises(ValueError, match="with_state"):
        fm.methods.lmd(teacher=Glass(bed_g().law)).loss(fm.FlowMap(fm.networks.MLP(1, width=8, depth=1)), x[:, :1])
    with pytest.raises(ValueError, match="with_state"):
        next(iter(fm.train(fm.FlowMap(network), fm.methods.meta_flow_map(), plain, steps=1, progress_bar=False)))
    assert fm.networks.StateInput.shape_for((3, 8, 8)) == (7, 8, 8)
    with pytest.raises(TypeError, match="velocity"):
        fm.methods.diamond(None)


def test_an_image_network_takes_a_state():
    inner = fm.networks.DiT(fm.networks.StateInput.shape_for((1, 8, 8)), patch=4, width=16, depth=1, heads=2)
    flow = fm.FlowMap(fm.networks.StateInput(inner))
    x = torch.randn(2, 1, 8, 8)
    drawn = fm.sample(flow, x, 2, condition={"state": x, "at": torch.tensor([0.3, 0.9])})
    assert drawn.shape == x.shape


@pytest.mark.slow
@pytest.mark.parametrize("name", ["meta_flow_map", "diamond"])
def test_a_small_map_learns_the_posterior(name):
    """Bed G at x_t = 0.3, t = 0.5: the posterior has E x0 = 0.979 and E x0^2 = 1.997, the law itself -0.6 and 3.55.

    Standard errors of the two means: 0.016 and 0.03.
    """
    bed = bed_g()
    torch.manual_seed(0)
    x0 = bed.law.sample(20_000, torch.Generator().manual_seed(0)).float()
    data = fm.data.with_state(fm.data.as_data(x0, standardise=False))
    flow = fm.FlowMap(fm.networks.StateInput(fm.networks.MLP((3,), width=96, depth=3)))
    options = {} if name == "meta_flow_map" else {"teacher": bed.law}
    method = getattr(fm.methods, name)(**options)
    options = {"lr": 2e-3, "batch_size": 256, "ema": 0.99, "progress_bar": False, "trackers": ()}
    for last in fm.train(flow, method, data, steps=500, **options):  # noqa: B007
        pass
    state = torch.full((4000, 1), 0.3)
    drawn = fm.sample(last.ema, torch.randn(4000, 1), 2, condition={"state": state, "at": 0.5 + 0 * state[:, 0]})
    first, second = bed.numbers["moments"]
    assert abs(float(drawn.mean()) - first) < 0.15 and abs(float((drawn**2).mean()) - second) < 0.4
