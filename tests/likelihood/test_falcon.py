"""FALCON: jumps there and back, determinants, and densities by jumps that integrate to one."""

import math
import warnings
from collections import deque

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import consistency, likelihood, velocity
from flowmaps.consistency import cycle
from flowmaps.trained import TrainedSpec
from tests.oracles import PATHS, Jumps, flow_of, gaussian, randn, times
from tests.training.support import QUIET


class Bent(nn.Module):
    """The jumps of an exact distribution plus size (s - t) sin 2x: invertible for small sizes, but no flow map."""

    def __init__(self, exact, size):
        super().__init__()
        self.exact, self.size = exact, size

    def forward(self, x, s, t):
        return self.exact.average_velocity(x, s, t) - self.size * torch.sin(2 * x)


def bent(size, law=None):
    law = gaussian() if law is None else law
    return fm.FlowMap(Bent(law, size), path=law.path)


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_cycle_rule_is_zero_at_the_truth_and_not_beside_it(path):
    law, (s, t) = gaussian(path), times(30)
    x = path.interpolate(law.sample(30), randn(30, 3), s)
    column = s[:, None], t[:, None]
    assert cycle(flow_of(law), None, x, *column).abs().max() < 1e-10
    wrong = bent(0.1, law)
    residual = cycle(wrong, None, x, *column)
    assert residual.abs().max() > 1e-3
    there = wrong(x, s, t)
    torch.testing.assert_close((t - s)[:, None] * residual, wrong(there, t, s) - x)


def test_every_map_that_is_its_own_inverse_obeys_it():
    """So the rule does not find the law: a map that stays where it is obeys it too."""

    class Still(nn.Module):
        def forward(self, x, s, t):
            return 0 * x

    x, column = randn(5, 3), torch.full((5, 1), 0.4).double()
    assert cycle(fm.FlowMap(Still()), None, x, column, 1 - column).abs().max() == 0


def test_both_jumps_are_trained():
    """The gradient is the one of the residual as a function of both values of the network."""
    flow = fm.FlowMap(fm.networks.MLP(3, width=8, depth=1, embedding=8)).double()
    nn.init.normal_(flow.network.output.weight)
    x, s, t = randn(4, 3), torch.full((4, 1), 0.8).double(), torch.full((4, 1), 0.3).double()
    weights = list(flow.parameters())
    found = torch.autograd.grad(cycle(flow, None, x, s, t).square().sum(), weights)
    again = torch.autograd.grad(((flow(flow(x, s, t), t, s) - x) / (t - s)).square().sum(), weights)
    for a, b in zip(found, again, strict=True):
        torch.testing.assert_close(a, b)


def test_wrong_velocities_and_partial_maps_are_refused():
    pair = velocity.Pair(randn(4, 3), randn(4, 3), fm.path.linear, {})
    flow = flow_of(gaussian())
    with pytest.raises(ValueError, match="cycle rule is about jumps of the flow map there and back"):
        cycle(flow, velocity.conditional(flow, pair), pair.x0, 0.5, 0.2)
    with pytest.raises(ValueError, match="cycle rule is about jumps"):
        fm.Term(consistency.cycle)
    for only in ({"only_source": 1.0}, {"only_target": 0.0}):
        partial_map = fm.FlowMap(Jumps(gaussian()), **only)
        with pytest.raises(ValueError, match="cycle rule needs jumps in both directions"):
            cycle(partial_map, None, pair.x0, torch.ones(4, 1).double(), torch.zeros(4, 1).double())


# --- the method -------------------------------------------------------------------------------------------------------


def test_falcon_trains_both_directions_with_a_cycle_loss():
    method = fm.methods.falcon()
    assert [term.name for term in method.terms] == ["diffusion", "eulerian", "cycle"]
    s, t = method.terms[2].times(1000, 0.0, torch.zeros(1))
    assert 400 < int((t > s).sum()) < 600
    assert len(fm.methods.falcon(strength=0.0).terms) == 2
    with pytest.raises(ValueError, match="leave no rows for MeanFlow's term"):
        fm.methods.falcon(diagonal=0.8, cycled=0.2)


def test_the_cycle_loss_is_the_squared_distance_there_and_back():
    flow, x0 = bent(0.3), randn(64, 3)
    for strength in (1.0, 2.5):
        loss = fm.methods.falcon(strength=strength).loss(flow, x0, noise=randn(64, 3, seed=1), times=(0.9, 0.2))
        x = 0.1 * x0 + 0.9 * randn(64, 3, seed=1)
        distance = (flow(flow(x, 0.9, 0.2), 0.2, 0.9) - x).square().mean()
        torch.testing.assert_close(loss.terms["cycle"].value, strength * distance)


def trained(steps, strength, seed=0):
    """A small map of a Gaussian, trained by FALCON."""
    torch.manual_seed(seed)
    flow = fm.FlowMap(fm.networks.ConcatMLP(2, width=32, depth=2))
    data = (
        0.6 * torch.randn(500, 2, generator=torch.Generator().manual_seed(1)) @ torch.tensor([[1.0, 0.8], [0.0, 0.6]])
    )
    method = fm.methods.falcon(strength=strength)
    settings = {**QUIET, "batch_size": 128}
    return deque(fm.train(flow, method, data, steps=steps, lr=5e-3, **settings), maxlen=1)[0].flow


@pytest.fixture(scope="module")
def learned():
    return trained(150, 10.0)


def test_densities_of_a_trained_map_integrate_to_one(learned):
    """The mean of p/p_N over its own samples is 1, at 4 standard errors, for any p, as here of another law."""
    flow = learned.double()
    assert flow.trained.up and flow.trained.down
    z = randn(4000, 2)
    law = fm.exact.Gaussian(torch.zeros(2).double(), 0.4)
    for steps in (1, 4):
        x0, log_prob = likelihood.sample(flow, z, steps)
        ratio = (law.log_prob(x0) - log_prob).exp()
        assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / len(z) ** 0.5


@pytest.mark.parametrize("size", [0.0, 0.05])
def test_densities_of_a_bent_jump_integrate_to_one(size):
    """One jump, and one jump + 0.05 (s - t) sin 2x, which is no flow map."""
    law = gaussian()
    x0, log_prob = likelihood.sample(bent(size), randn(4000, 3), 1)
    ratio = (law.log_prob(x0) - log_prob).exp()
    assert abs(float(ratio.mean()) - 1) < 4 * float(ratio.std()) / 4000**0.5 + 1e-9
    assert (ratio.std() < 1e-6) == (size == 0)


def test_the_density_without_its_determinant_does_not():
    """The negative control: the sum of divergences at the left ends of a few steps."""
    law, z, steps = gaussian(), randn(4000, 3), 4
    x, change = z, 0.0
    for k in range(steps):
        s = 1 - k / steps
        trace = likelihood.exact(chunk=1)
        v, divergence = trace(lambda x, s=s: law.velocity(x, torch.full((len(x), 1), s).double()), x, trace.draw(x))
        x, change = x - v / steps, change + divergence[:, 0] / steps
    noise = -0.5 * z.square().sum(1) - 1.5 * math.log(2 * math.pi)
    ratio = (law.log_prob(x) - noise - change).exp()
    assert abs(float(ratio.mean()) - 1) > 8 * float(ratio.std()) / len(z) ** 0.5


# --- monitoring -------------------------------------------------------------------------------------------------------


def test_invertibility_of_the_exact_map():
    """Its determinants are ratios of the volumes of the marginals, and its cycle error is zero."""
    law = gaussian()
    found = likelihood.invertibility(flow_of(law), randn(20, 3), 4)

    def volume(t):
        return ((1 - t) ** 2 * law.variances + t**2).sqrt().prod()

    expected = min(float(volume(1 - (k + 1) / 4) / volume(1 - k / 4)) for k in range(4))
    assert found.smallest_determinant == pytest.approx(expected, rel=1e-6)
    assert found.folded == 0 and found.cycle_error < 1e-10


def test_a_folded_map_is_named():
    """x + (t - s) V with V = 2 sin 2x has the determinant (1 - 4 cos 2x) in one dimension."""

    class Folding(nn.Module):
        def forward(self, x, s, t):
            return 2 * torch.sin(2 * x)

    z = torch.linspace(-2, 2, 101).double()[:, None]
    found = likelihood.invertibility(fm.FlowMap(Folding()), z, 1)
    determinant = 1 - 4 * torch.cos(2 * z[:, 0])
    assert found.smallest_determinant == pytest.approx(float(determinant.min()))
    assert found.folded == pytest.approx(float((determinant <= 0).double().mean()))
    there = z - 2 * torch.sin(2 * z)
    assert found.cycle_error == pytest.approx(float((there + 2 * torch.sin(2 * there) - z).square().mean().sqrt()))


def test_a_map_of_one_direction_has_no_cycle():
    flow = flow_of(gaussian())
    flow.trained = TrainedSpec(down=True, up=False)
    with pytest.raises(ValueError, match="from noise to data"):
        likelihood.invertibility(flow, randn(4, 3), 2)
    with pytest.raises(ValueError, match="partial flow map has no jump"):
        likelihood.invertibility(fm.FlowMap(Jumps(gaussian()), only_target=0.0), randn(4, 3), 1)


def test_a_stronger_cycle_loss_has_a_smaller_cycle_error(learned):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without = trained(150, 0.0)
    z = torch.randn(500, 2, generator=torch.Generator().manual_seed(5))
    errors = [likelihood.invertibility(flow.float(), z, 1).cycle_error for flow in (learned, without)]
    assert errors[0] < 0.8 * errors[1]
