"""The flow map: what each output predicts, both directions of time, partial maps, conditions, refusals."""

import pytest
import torch
from torch import nn

import flowmaps as fm
from flowmaps import derivative
from flowmaps import path as paths
from flowmaps.outputs import Rotation
from flowmaps.serialise import build, describe
from tests.oracles import PATHS, flow_of, gaussian, randn, times

ALL = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
GAUSSIAN_SKIP = fm.GaussianSkip.fit(randn(50, 3, seed=7) * torch.tensor([1.0, 0.5, 2.0]))
OUTPUTS = {
    "average_velocity": fm.average_velocity,
    "endpoint": fm.Endpoint(),
    "position": fm.Position(0.7),
    "rotation": Rotation(0.7),
    "gaussian_skip": GAUSSIAN_SKIP,
    "bounded": fm.Bounded(GAUSSIAN_SKIP, -1e3, 1e3),
}
ANY_OUTPUT = pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)


class Network(nn.Module):
    """A small smooth network of all its inputs; `label` is added to the times."""

    def __init__(self, size=3):
        super().__init__()
        self.inner, self.outer = nn.Linear(size + 2, 8).double(), nn.Linear(8, size).double()

    def forward(self, x, s, t, label=0.0):
        times = torch.stack([s + label, t], 1)
        return self.outer(torch.tanh(self.inner(torch.cat([x, times], 1))))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, s, t):
        return self.function(x, s[:, None], t[:, None])


@ALL
@ANY_OUTPUT
def test_a_jump_of_no_time_is_the_identity(path, output):
    flow, x = fm.FlowMap(Network(), output, path), randn(9, 3)
    s, _ = times(9)
    assert torch.equal(flow(x, s, s), x)
    assert torch.equal(flow(x, 1.0, 1.0), x) and torch.equal(flow(x, 0.0, 0.0), x)


@ALL
@ANY_OUTPUT
def test_position_velocity_and_jump_agree(path, output):
    flow, x = fm.FlowMap(Network(), output, path), randn(9, 3)
    s, t = times(9)
    gap = (t - s)[:, None]
    torch.testing.assert_close(flow(x, s, t), x + gap * flow.average_velocity(x, s, t))
    torch.testing.assert_close(flow.velocity(x, t), flow.average_velocity(x, t, t))
    h = 1e-6
    torch.testing.assert_close((flow(x, s, s + h) - x) / h, flow.velocity(x, s), rtol=1e-4, atol=1e-4)
    v = path.convert(flow.denoise(x, t), x, t, paths.data, paths.velocity)
    torch.testing.assert_close(v, flow.velocity(x, t))


def polar(path, t, data_std):
    """Radius and angle of (data_std alpha, sigma)."""
    alpha, sigma = data_std * path.alpha(t), path.sigma(t)
    return torch.hypot(alpha, sigma), torch.atan2(sigma, alpha)


def what_the_network_should_say(output, g, x, s, t):
    """Each output solved for the network's value at the true map, from F and the path alone."""
    F, path = g.flow_map(x, s, t), g.path
    if output == OUTPUTS["endpoint"]:
        ratio = path.sigma(t) / path.sigma(s)
        return (F - ratio * x) / (path.alpha(t) - path.alpha(s) * ratio)
    if output == OUTPUTS["position"]:
        gap, d2 = t - s, 0.7**2
        return (F - d2 / (d2 + gap**2) * x) / (gap * 0.7 / (d2 + gap**2).sqrt())
    if output == OUTPUTS["rotation"]:
        (rho_s, tau_s), (rho_t, tau_t) = polar(path, s, 0.7), polar(path, t, 0.7)
        return ((tau_s - tau_t).cos() * x / rho_s - F / rho_t) / (tau_s - tau_t).sin()
    V = (F - x) / (t - s)
    if output in (OUTPUTS["gaussian_skip"], OUTPUTS["bounded"]):
        skip = fm.exact.Gaussian(
            GAUSSIAN_SKIP.mean,
            covariance=GAUSSIAN_SKIP.basis @ torch.diag(GAUSSIAN_SKIP.variances) @ GAUSSIAN_SKIP.basis.T,
            path=path,
        )
        return V - (skip.flow_map(x, s, t) - x) / (t - s)
    return V


@ALL
@ANY_OUTPUT
def test_the_right_network_gives_the_exact_map(path, output):
    g = gaussian(path)
    flow = fm.FlowMap(Function(lambda x, s, t: what_the_network_should_say(output, g, x, s, t)), output, path)
    x, (s, t) = randn(30, 3), times(30)
    torch.testing.assert_close(flow(x, s, t), g.flow_map(x, s, t), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flow.average_velocity(x, s, t), g.average_velocity(x, s, t), rtol=1e-9, atol=1e-9)


@ALL
def test_endpoint_predicts_the_denoised_field_on_the_diagonal(path):
    g = gaussian(path)
    flow = fm.FlowMap(Function(lambda x, s, t: g.denoise(x, s)), fm.Endpoint(), path)
    x, (s, _) = randn(30, 3), times(30)
    torch.testing.assert_close(flow.velocity(x, s), g.velocity(x, s))
    torch.testing.assert_close(flow.denoise(x, s), g.denoise(x, s))


@ALL
def test_a_rotation_turns_by_its_angle_on_the_diagonal(path):
    """There N is the mean of cos(tau) eps - sin(tau) x_0 / d."""
    g = gaussian(path)

    def turning(x, s, t):
        _, tau = polar(path, s, 0.7)
        x0 = g.denoise(x, s)
        eps = path.convert(x0, x, s, paths.data, paths.noise)
        return tau.cos() * eps - tau.sin() * x0 / 0.7

    flow, x, (s, _) = fm.FlowMap(Function(turning), Rotation(0.7), path), randn(30, 3), times(30)
    torch.testing.assert_close(flow.velocity(x, s), g.velocity(x, s))


def test_trigflow_by_hand():
    x, N = randn(4, 2), randn(4, 2, seed=1)
    flow = fm.FlowMap(Function(lambda *_: N), Rotation(), paths.trigonometric)
    third = torch.tensor(torch.pi / 3, dtype=torch.float64)
    torch.testing.assert_close(flow(x, 0.9, 0.9 - 2 / 3), third.cos() * x - third.sin() * N)
    torch.testing.assert_close(flow.velocity(x, 0.4), torch.pi / 2 * N)
    torch.testing.assert_close(flow(x, 1.0, 0.0), -N)


def test_rotation_to_the_data_is_the_output_of_a_consistency_model():
    """c_skip = d^2/(sigma^2 + d^2), c_out = sigma d/sqrt(sigma^2 + d^2) on the path of EDM."""
    path, d = paths.VarianceExploding(80.0), 0.5
    x, N, s = randn(9, 2), randn(9, 2, seed=1), times(9)[0][:, None]
    flow = fm.FlowMap(Function(lambda *_: -N), Rotation(d), path)
    sigma = 80 * s
    expected = d**2 / (sigma**2 + d**2) * x + sigma * d / (sigma**2 + d**2).sqrt() * N
    torch.testing.assert_close(flow(x, s, 0.0), expected, rtol=1e-10, atol=1e-12)
    flow = fm.FlowMap(Function(lambda *_: -N), fm.Position(d))
    expected = d**2 / (s**2 + d**2) * x - s * d / (s**2 + d**2).sqrt() * -N
    torch.testing.assert_close(flow(x, s, 0.0), expected, rtol=1e-10, atol=1e-12)


@ALL
@pytest.mark.parametrize("tangents", [(0, 1, 0), (0, 0, 1), (1, 1, 0)])
def test_a_rotation_has_a_derivative_on_and_near_the_diagonal(path, tangents):
    flow, x, (s, _) = fm.FlowMap(Network(), Rotation(0.7), path), randn(9, 3), times(9)
    s, h = s[:, None], 1e-4
    for t in (s, s + 1e-9, s - 1e-3):

        def moved(k, t=t):
            return flow.average_velocity(x + k * h * tangents[0], s + k * h * tangents[1], t + k * h * tangents[2])

        expected = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * h)
        for engine in (derivative.jvp, derivative.detached):
            _, d = engine(flow.average_velocity, (x, s, t), tangents)
            torch.testing.assert_close(d, expected, rtol=1e-6, atol=1e-7)


def test_rotation_is_described():
    assert build(describe(Rotation(0.5))) == Rotation(0.5)


def test_endpoint_on_the_linear_path_by_hand():
    x, D = randn(4, 2), randn(4, 2, seed=1)
    flow = fm.FlowMap(Function(lambda x, s, t: D), fm.Endpoint(min_time=0.1))
    torch.testing.assert_close(flow(x, 0.8, 0.2), 0.25 * x + 0.75 * D)
    torch.testing.assert_close(flow.average_velocity(x, 0.05, 0.0), (x - D) / 0.1)  # held at min_time
    torch.testing.assert_close(flow(x, 0.7, 0.0), D)


def test_gaussian_skip_of_a_silent_network_is_the_gaussian():
    rows = randn(60, 3) @ randn(3, 3, seed=1) + 1
    skip, g = fm.GaussianSkip.fit(rows, floor=0.0), fm.exact.Gaussian.fit(rows, floor=0.0)
    flow = fm.FlowMap(Function(lambda x, s, t: 0 * x), skip)
    x, (s, t) = randn(10, 3), times(10)
    torch.testing.assert_close(flow(x, s, t), g.flow_map(x, s, t))


def test_gaussian_skip_takes_images_and_bounds_its_slope():
    skip = fm.GaussianSkip.fit(torch.zeros(9, 1, 2, 2) + torch.randn(9, 1, 1, 1), floor=0.04)
    assert skip.variances.min() == pytest.approx(0.04)
    flow = fm.FlowMap(lambda_module(lambda x, s, t: 0 * x), skip)
    x = torch.randn(3, 1, 2, 2)
    assert flow(x, 1.0, 0.0).shape == x.shape
    slope = (flow.velocity(x + 1e-2, 0.0) - flow.velocity(x, 0.0)) / 1e-2
    assert slope.abs().max() <= 1.01  # at t = 0 every coordinate has d log g / dt = -1


def lambda_module(function):
    module = nn.Module()
    module.forward = function
    return module


@pytest.mark.parametrize(
    "dtype, time_dtype", [(torch.float64,) * 2, (torch.float32,) * 2, (torch.bfloat16, torch.float32)]
)
def test_networks_see_flat_unscaled_times(dtype, time_dtype):
    seen = []
    flow = fm.FlowMap(lambda_module(lambda x, s, t: seen.append((s, t)) or 0 * x))
    result = flow(torch.zeros(3, 2, 4, dtype=dtype), 1, torch.tensor([0.25, 0.5, 1.0]).reshape(3, 1, 1))
    (s, t), *_ = seen
    assert s.shape == t.shape == (3,) and s.dtype == t.dtype == time_dtype and result.dtype == dtype
    assert s.tolist() == [1, 1, 1] and t.tolist() == [0.25, 0.5, 1.0]


def test_one_row_one_coordinate_and_higher_events():
    for shape in ((1, 1), (1, 2, 3, 4, 5), (4,)):
        flow, x = fm.FlowMap(lambda_module(lambda x, s, t: x)), torch.ones(shape)
        assert torch.equal(flow(x, 0, 1), 2 * x)


@pytest.mark.parametrize(
    "s, t, message",
    [
        (1.2, 0.0, "source times.*got 1.2"),
        (0.5, -0.1, "target times.*got -0.1"),
        (float("nan"), 0.0, "source times.*got nan"),
        (torch.tensor([0.1, 2.0, 3.0]), 0.0, "source times.*got 2 and 1 more"),
    ],
)
def test_times_outside_the_unit_interval_are_refused(s, t, message):
    with pytest.raises(ValueError, match=message):
        fm.FlowMap(Network())(randn(3, 3), s, t)


def test_a_network_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape of x, \(3, 2\), but it returned \(3, 1\)"):
        fm.FlowMap(lambda_module(lambda x, s, t: x[:, :1]))(randn(3, 2), 1.0, 0.0)
    with pytest.raises(ValueError, match=r"shape of x, \(3, 2\), but it returned a tuple"):
        fm.FlowMap(lambda_module(lambda x, s, t: (x, s)))(randn(3, 2), 1.0, 0.0)


def test_partial_maps_refuse_what_they_do_not_know():
    to_data, from_noise = fm.FlowMap(Network(), only_target=0.0), fm.FlowMap(Network(), only_source=1.0)
    x = randn(3, 3)
    assert to_data(x, 0.7, 0.0).shape == from_noise(x, 1.0, 0.3).shape == x.shape
    with pytest.raises(ValueError, match="only knows the target time 0, but it was asked for 0.2"):
        to_data(x, 1.0, torch.tensor([0.0, 0.2, 0.0]))
    with pytest.raises(ValueError, match="only knows the source time 1, but it was asked for 0.5"):
        from_noise(x, 0.5, 0.0)
    with pytest.raises(ValueError, match="only knows the target time 0"):
        to_data.velocity(x, 0.5)
    with pytest.raises(ValueError, match="asked for 0.5; to sample it in several steps, pass step=steps.restart"):
        fm.sample(to_data, x, steps=2)
    with pytest.raises(ValueError, match=r"asked for 0\.5; it .*steps=1"):
        fm.sample(from_noise, x, steps=2)


def test_given_binds_a_condition_and_shares_the_weights():
    flow, x, label = fm.FlowMap(Network()), randn(3, 3), torch.tensor([0.0, 1.0, 2.0]).double()
    bound = flow.given(label=label)
    s, t = torch.tensor([[0.5], [0.1]], dtype=torch.float64).expand(2, 3)
    torch.testing.assert_close(bound(x, s, t), x - 0.4 * flow.network(x, s, t, label))
    assert flow.condition == {} and bound.network is flow.network
    assert bound.given(label=label + 1).condition["label"] is not bound.condition["label"]
    bound(x, s, t).sum().backward()
    assert all(p.grad is not None for p in flow.parameters())


def test_around_keeps_everything_but_the_network():
    flow = fm.FlowMap(Network(), GAUSSIAN_SKIP, paths.trigonometric, only_source=1.0).given(label=2.0)
    other = flow.around(lambda x, s, t, label: 0 * x + label)
    x = randn(3, 3)
    expected = GAUSSIAN_SKIP(torch.full_like(x, 2.0), x, torch.ones(3, 1), torch.zeros(3, 1), paths.trigonometric)
    torch.testing.assert_close(other.average_velocity(x, 1.0, 0.0), expected)
    assert isinstance(flow.network, Network)
    with pytest.raises(ValueError, match="only knows the source time"):
        other(x, 0.5, 0.0)


def test_state_dict_holds_network_and_output():
    empty = fm.GaussianSkip(*(torch.zeros_like(value) for value in GAUSSIAN_SKIP.buffers()))
    source, target = fm.FlowMap(Network(), GAUSSIAN_SKIP), fm.FlowMap(Network(), empty)
    target.load_state_dict(source.state_dict())
    x = randn(3, 3)
    assert torch.equal(source(x, 0.9, 0.2), target(x, 0.9, 0.2))
    assert set(source.state_dict()) >= {"output.mean", "network.inner.weight"}


def test_an_exact_distribution_is_a_network_too():
    g = gaussian()
    x, (s, t) = randn(9, 3), times(9)
    torch.testing.assert_close(flow_of(g)(x, s, t), g.flow_map(x, s, t))


@ALL
def test_a_bounded_output_keeps_its_field_within_the_bounds(path):
    """And leaves V alone where the field is within them; both happen here."""
    free = fm.FlowMap(Network(), GAUSSIAN_SKIP, path)
    bounded = fm.FlowMap(free.network, fm.Bounded(GAUSSIAN_SKIP, -0.5, 0.5), path)
    x, (s, t) = randn(200, 3), times(200)
    s = s.clamp(min=0.01)
    V, W = free.average_velocity(x, s, t), bounded.average_velocity(x, s, t)
    field = fm.Endpoint(1e-3).field
    columns = s[:, None], t[:, None]
    before, after = field(V, x, *columns, path), field(W, x, *columns, path)
    inside = before.abs() < 0.5
    assert 0.1 < inside.double().mean() < 0.9
    torch.testing.assert_close(W[inside], V[inside])
    torch.testing.assert_close(after, before.clamp(-0.5, 0.5))


@ALL
def test_bounds_exclude_no_flow_map_of_bounded_data(path):
    """Data at -1 and 1, give or take 0.02, jump in any direction with a field between them, give or take 0.15."""
    exact = fm.exact.GaussianMixture([0.3, 0.7], [-1.0, 1.0], 0.02, path=path)
    x = exact.path.sigma(torch.ones(())) * randn(20, 1)
    middle = exact.flow_map(x, 1.0, 0.5)
    for y, s, t in ((x, 1.0, 0.5), (middle, 0.5, 0.2), (middle, 0.5, 0.9)):
        V = exact.average_velocity(y, s, t)
        bounded = fm.FlowMap(Function(lambda *_, V=V: V), fm.Bounded(low=-1.15, high=1.15), path)
        torch.testing.assert_close(bounded.average_velocity(y, s, t), V)


def test_bounds_leave_the_data_end_alone():
    """At s = 0 the state is the data, and the velocity is that of any path that leaves it."""
    free = fm.FlowMap(Network(), GAUSSIAN_SKIP)
    bounded = fm.FlowMap(free.network, fm.Bounded(GAUSSIAN_SKIP))
    x = randn(50, 3).clamp(-1, 1)
    assert torch.equal(bounded(x, 0.0, 0.7), free(x, 0.0, 0.7))


def test_bounds_must_be_in_order():
    with pytest.raises(ValueError, match="low < high"):
        fm.Bounded(low=1.0, high=-1.0)


def one_time(signature):
    """A module whose forward has these arguments, and returns x."""
    names = {}
    exec(f"def forward({signature}): return x", names)
    return type("Net", (nn.Module,), {"forward": names["forward"]})()


@pytest.mark.parametrize(
    "signature",
    [
        "self, x",
        "self, x, t",
        "self, x, t, *, label=None",
        "self, x, t, **conditions",
        "self, x, t, y=None",  # the target time would become the label, without an error
        "self, x, timestep, class_labels",
        "self, sample, timestep, encoder_hidden_states, return_dict=True",
    ],
)
def test_a_network_with_one_time_is_refused(signature):
    with pytest.raises(
        TypeError, match=r"network\(x, s, t\).* and Net.forward\(.*no place for the second time: add one"
    ):
        fm.FlowMap(one_time(signature))


@pytest.mark.parametrize(
    "signature",
    [
        "self, x, s, t",
        "self, x, s, t=None",
        "self, x, t, r, y=None",
        "self, *args",
        "self, x, s, t, label",
        "self, x, *times",
    ],
)
def test_a_network_with_two_times_is_taken(signature):
    flow = fm.FlowMap(one_time(signature))
    assert flow.around(flow.network).network is flow.network


def test_a_forward_of_the_instance_is_not_judged_by_its_class():
    network = one_time("self, x, t")
    network.forward = lambda x, s, t: x
    assert torch.equal(fm.FlowMap(network).average_velocity(torch.ones(2, 3), 1.0, 0.0), torch.ones(2, 3))
