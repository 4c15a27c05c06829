"""Policies: a Gaussian mixture over the data given a noisy state has the exact velocity at every later time."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.networks import MLP, DiT, UNet, source_only
from flowmaps.outputs import MixturePolicy, Policy, policy_of

ANGLES = torch.arange(8, dtype=torch.float64) * math.pi / 4
MEANS = 2 * torch.stack((ANGLES.cos(), ANGLES.sin()), 1)
PATHS = pytest.mark.parametrize(
    "path", [fm.path.linear, fm.path.trigonometric, fm.path.VarianceExploding(5.0)], ids=str
)


def ring(path=fm.path.linear):
    return fm.exact.GaussianMixture([1 / 8] * 8, MEANS, 0.2, path=path)


def given(law, x, s):
    """Weights, means and variance of the components of x_0 given x_s = x, as a policy takes them."""
    rows = law.posterior_of_data(x, s)
    return rows.weights.log()[:, :, None], rows.means, rows.variances[:, :1, :1]


def states(law, n, s):
    noise = torch.randn(n, 2, dtype=torch.float64)
    return law.path.interpolate(law.sample(n), noise, s)


@PATHS
def test_the_true_posterior_is_exact_at_all_later_times_and_so_is_its_jump(path):
    """A13. As controls, the posterior of another time, and one without its evidence x_s taken out."""
    torch.manual_seed(0)
    law, s = ring(path), 0.8
    x = states(law, 12, s)
    policy = Policy.of_posterior(*given(law, x, s), x, s, path)
    for t in (0.8, 0.05, 0.6):
        there = law.flow_map(x, s, t, tolerance=1e-7)
        assert torch.allclose(policy.denoise(there, t), law.denoise(there, t), rtol=0, atol=1e-12)
        assert torch.allclose(policy.velocity(there, t), law.velocity(there, t), rtol=0, atol=1e-11)
    for wrong in (Policy.of_posterior(*given(law, x, 0.7), x, s, path), Policy(*given(law, x, s), path)):
        assert (wrong.denoise(there, 0.6) - law.denoise(there, 0.6)).abs().max() > 1e-2
    ends = law.flow_map(x, s, 0.0, tolerance=1e-7)
    errors = [float((x - s * policy.average_velocity(x, s, 0.0, n) - ends).abs().mean()) for n in (32, 64)]
    assert 3 < errors[0] / errors[1] < 5 and errors[1] < 1e-3  # falls like 1/n^2


def test_it_is_the_formula_of_the_paper():
    """Precision 1/var + nu(t) - nu(s), natural means m/var + (1-t) x_t/t^2 - (1-s) x_s/s^2, and their evidence."""
    torch.manual_seed(0)
    law, s, t = ring(), 0.7, 0.4
    x, y = states(law, 9, s), torch.randn(9, 2, dtype=torch.float64)
    log_weights, means, variance = given(law, x, s)

    def mean(nu_s):
        precision = 1 / variance + ((1 - t) / t) ** 2 - nu_s
        natural = means / variance + ((1 - t) / t**2 * y - (1 - s) / s**2 * x)[:, None]
        evidence = (natural**2 / precision - means**2 / variance).sum(2, keepdim=True) / 2
        return ((log_weights + evidence).softmax(1) * natural / precision).sum(1)

    policy = Policy.of_posterior(log_weights, means, variance, x, s, fm.path.linear)
    assert torch.allclose(policy.denoise(y, t), mean(((1 - s) / s) ** 2), rtol=0, atol=1e-12)
    assert torch.allclose(policy.velocity(y, t), (y - mean(((1 - s) / s) ** 2)) / t, rtol=0, atol=1e-12)
    assert (policy.denoise(y, t) - mean(0.0)).abs().max() > 0.01  # another precision
    with pytest.raises(ValueError, match="must be below"):
        Policy.of_posterior(log_weights, means, torch.full_like(variance, (s / (1 - s)) ** 2 + 0.1), x, s, policy.path)


class Constant(torch.nn.Module):
    """The same value for each row."""

    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(value)

    def forward(self, x, s, t):
        return self.value.expand(len(x), *self.value.shape)


def exact_flow(**options):
    """The exact flow map of the ring, as a policy of a constant value."""
    return fm.FlowMap(Constant(torch.zeros(25, dtype=torch.float64)), MixturePolicy(MEANS, 0.04, **options))


def test_a_flow_map_with_a_policy_is_sampled_like_any_other():
    torch.manual_seed(0)
    law, flow, x = ring(), exact_flow(substeps=64), torch.randn(10, 2, dtype=torch.float64)
    assert torch.allclose(flow.velocity(x, 0.3), law.velocity(x, 0.3), rtol=0, atol=1e-12)
    assert torch.allclose(flow.denoise(x, 0.3), law.denoise(x, 0.3), rtol=0, atol=1e-12)
    assert torch.allclose(flow(x, 1.0, 0.0), law.flow_map(x, 1.0, 0.0), atol=3e-3)
    assert torch.allclose(flow(x, 0.2, 0.9), law.flow_map(x, 0.2, 0.9), atol=3e-3)  # back to noise, too
    assert torch.allclose(fm.sample(flow, x, steps=4), law.flow_map(x, 1.0, 0.0), atol=3e-3)
    assert flow.field(x, 0.5, 0.2).isfinite().all() and torch.equal(flow(x, 0.0, 0.0), x)
    flow = exact_flow(substeps=4)
    V, dV = fm.derivative.jvp(flow.average_velocity, (x, *torch.full((2, 10, 1), 0.6).double()), (0, 0, 1))
    h = 1e-5
    slope = (flow.average_velocity(x, 0.6, 0.6 + h) - flow.average_velocity(x, 0.6, 0.6 - h)) / (2 * h)
    assert torch.allclose(dV, slope, atol=1e-6) and torch.allclose(V, flow.velocity(x, 0.6))


def test_pixels_have_mixtures_of_their_own():
    """A law of independent pixels: the policy of an image is the one of each pixel's channels."""
    torch.manual_seed(0)
    output = MixturePolicy.fit(torch.randn(40, 3, 4, 5, dtype=torch.float64) + 1, 6)
    x, value = torch.randn(2, 3, 4, 5, dtype=torch.float64), torch.randn(2, output.channels, 4, 5, dtype=torch.float64)
    assert output.channels == 6 * 4 + 1 and output.centres.shape == (6, 3)
    whole = output(value, x, *torch.tensor([0.9, 0.2]).double().reshape(2, 1, 1, 1, 1), fm.path.linear)
    rows = [z.movedim(1, -1).flatten(0, 2) for z in (value, x)]
    each = output(*rows, *torch.tensor([0.9, 0.2]).double().reshape(2, 1, 1), fm.path.linear)
    assert torch.allclose(whole, each.reshape(2, 4, 5, 3).movedim(-1, 1), atol=1e-12)


def test_the_mixture_of_a_zero_value_has_the_mean_and_variance_of_data():
    output = MixturePolicy.fit(5 + 3 * torch.randn(4000, 2, dtype=torch.float64), 2000)
    assert torch.allclose(output.centres.mean(0), torch.tensor([5.0, 5.0]).double(), atol=0.3)
    assert float(output.centres.var(0).mean()) + output.variance == pytest.approx(9, rel=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda c: (MLP(2, 8, 1, times=source_only, channels_out=c), (2,)),
        lambda c: (MLP((3, 8, 8), 8, 1, times=source_only, channels_out=c), (3, 8, 8)),
        lambda c: (UNet((3, 8, 8), 8, (1,), 1, times=source_only, channels_out=c), (3, 8, 8)),
        lambda c: (DiT((3, 8, 8), 2, 12, 1, 2, times=source_only, channels_out=c), (3, 8, 8)),
    ],
    ids=["points", "MLP", "UNet", "DiT"],
)
def test_networks_have_a_wider_last_layer_and_are_saved_with_it(make, tmp_path):
    torch.manual_seed(0)
    shape = make(1)[1]
    output = MixturePolicy.fit(torch.randn(20, *shape), 4, substeps=3)
    flow = fm.FlowMap(make(output.channels)[0], output)
    for weight in flow.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    x = torch.randn(5, *shape)
    assert torch.equal(flow(x, 1.0, 0.0), x - flow.average_velocity(x, 1.0, 0.0))
    policy = policy_of(flow, x, 1.0, 0.0)
    assert torch.equal(policy_of(flow, x, 1.0, 0.3).means, policy.means)  # the network does not see t
    fm.save(flow, tmp_path / "flow.safetensors")
    again = fm.load(tmp_path / "flow.safetensors")
    assert torch.equal(again(x, 1.0, 0.0), flow(x, 1.0, 0.0)) and repr(again.output) == repr(flow.output)


def test_wrong_shapes_are_refused():
    x, flow = torch.randn(4, 2), fm.FlowMap(MLP(2, 8, 1), MixturePolicy.fit(torch.randn(20, 2), 4))
    with pytest.raises(ValueError, match="needs x .B, 2, .... and a network with channels_out=13, got"):
        flow(x, 1.0, 0.0)
    with pytest.raises(ValueError, match="predicts a policy, and the output of this one is none"):
        policy_of(fm.FlowMap(MLP(2, 8, 1)), x, 1.0, 0.0)
    with pytest.raises(ValueError, match="data with a variance"):
        MixturePolicy.fit(torch.ones(5, 2))
    with pytest.raises(ValueError, match=r"shape \(K, C\)"):
        MixturePolicy(torch.zeros(2, 2, 2), 1.0)
