"""Log-densities by the ODE, against mixtures and Gaussians in closed form."""

import math
import warnings

import pytest
import torch

import flowmaps as fm
from flowmaps.likelihood.solvers import euler, heun, rk4
from tests.likelihood.beds import EXACT, LAW, Affine, Table, draws, network, on, standard_error
from tests.oracles import gaussian

L, P = fm.likelihood, fm.path
PATHS = {"linear": P.linear, "trigonometric": P.trigonometric, "preserving": P.VariancePreserving()}


def error(law, x, by):
    return (L.log_prob(law, x, by=by).value - law.log_prob(x)).abs()


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_the_ode_has_the_density_of_the_mixture(path):
    """To 1e-5; the usual 50 steps have five times this error."""
    law, x = on(path), draws(60)
    kept = math.exp(-5.025) if "Preserving" in type(path).__name__ else 0.0  # of the data at t = 1
    assert float(error(law, x, L.ode(EXACT, steps=80)).max()) < 1e-5 + 3 * kept


@pytest.mark.slow
def test_the_error_falls_with_the_order_of_the_rule():
    x = draws(60)
    for rule, order, steps in ((euler, 1, 40), (heun, 2, 20), (rk4, 4, 20)):
        coarse, fine = (float(error(LAW, x, L.ode(EXACT, L.grid(n, rule))).mean()) for n in (steps, 2 * steps))
        assert coarse / fine == pytest.approx(2**order, rel=0.4), rule


def test_a_wrong_sign_or_half_the_trace_would_be_seen():
    """The negative control: the divergence counts."""

    class Half(L.ExactTrace):
        def __call__(self, field, x, probes):
            value, trace = super().__call__(field, x, probes)
            return value, trace / 2

    assert float(error(LAW, draws(50), L.ode(Half(chunk=1), steps=20)).median()) > 0.3


@pytest.mark.slow
def test_an_adaptive_solver_has_its_tolerance():
    x = draws(60)
    loose, tight = (float(error(LAW, x, L.ode(EXACT, L.adaptive(rtol=r, atol=r))).max()) for r in (1e-4, 1e-7))
    assert tight < 1e-4 < loose < 0.1
    assert float(error(LAW, x, L.ode(EXACT, L.adaptive("bosh3", 1e-4, 1e-4))).max()) < 0.1


def test_a_gaussian_with_a_full_covariance():
    law = gaussian()
    x = law.sample(50, torch.Generator().manual_seed(0))
    assert float(error(law, x, L.ode(EXACT, steps=20)).max()) < 1e-4


def test_an_affine_network_is_known():
    """V(x, t, t) = A x + b for all t: x_1 = e^A x_0 + ..., and log det = tr A."""
    matrix = torch.tensor([[0.3, -0.4], [0.2, -0.6]], dtype=torch.float64)
    flow, x = fm.FlowMap(Affine(matrix)), draws(30)
    z = x @ torch.linalg.matrix_exp(matrix).T
    expected = -0.5 * z.square().sum(1) - math.log(2 * math.pi) + matrix.trace()
    found = L.log_prob(flow, x)
    torch.testing.assert_close(found.value, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.noise, z, rtol=0, atol=1e-8)
    assert not found.value.requires_grad and found.standard_error is None and found.folded is None


# --- exploding paths --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_exploding_path_is_an_approximation_and_says_so():
    """With dense times near the data, or an adaptive solver; the noise of t = 1 has a share of data."""
    law, x = on(P.VarianceExploding(80.0)), draws(100)
    for solver in (L.grid(50, power=3), L.adaptive(rtol=1e-4, atol=1e-4)):
        with pytest.warns(UserWarning, match="not noise alone"):
            assert float(error(law, x, L.ode(EXACT, solver)).max()) < 0.05
    with pytest.warns(UserWarning):
        assert float(error(law, x, L.ode(EXACT, L.grid(50))).max()) > 0.5  # equal steps miss the data's scale


def test_paths_that_end_in_noise_say_nothing():
    for path in (*PATHS.values(), P.VarianceExploding(500.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            L.log_prob(on(path), draws(3), by=L.ode(steps=2))


# --- Hutchinson -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [L.hutchinson, L.differences])
@pytest.mark.parametrize("fresh", [True, False])
def test_estimates_are_unbiased_and_tell_their_standard_error(make, fresh):
    """The difference from the exact trace, in units of its own standard error, has mean 0 and size 1 over rows."""
    x = draws(400)
    torch.manual_seed(0)
    exact = L.log_prob(LAW, x, by=L.ode(EXACT, steps=5)).value
    found = L.log_prob(LAW, x, by=L.ode(make(16, fresh=fresh), steps=5))
    difference = found.value - exact
    assert abs(float(difference.mean())) < 4 * standard_error(difference)
    scaled = difference / found.standard_error
    # t-distributed with 15 degrees of freedom: variance 15/13
    assert float(scaled.var()) == pytest.approx(15 / 13, rel=4 * (2 / 400) ** 0.5 * 1.3)
    assert L.log_prob(LAW, x[:2], by=L.ode(make(1), steps=2)).standard_error is None


@pytest.mark.slow
def test_fresh_probes_have_smaller_errors_than_kept_ones():
    x = draws(200)
    torch.manual_seed(0)
    errors = {
        fresh: float(L.log_prob(LAW, x, by=L.ode(L.hutchinson(4, fresh=fresh), steps=20)).standard_error.mean())
        for fresh in (True, False)
    }
    assert errors[True] < 0.7 * errors[False]


def test_an_adaptive_solver_keeps_its_probes():
    """Otherwise it would compare two random functions, and take ever smaller steps."""
    counted = []

    class Counted(L.Hutchinson):
        def draw(self, x):
            counted.append(1)
            return super().draw(x)

    x = draws(20)
    found = L.log_prob(LAW, x, by=L.ode(Counted(2), L.adaptive(rtol=1e-2, atol=1e-2)))
    assert counted == [1] and found.passes < 3 * 400
    L.log_prob(LAW, x, by=L.ode(Counted(2), steps=5))
    assert len(counted) == 2 + 20


def test_a_seed_reproduces_an_estimate():
    x = draws(20)
    found = []
    for _ in range(2):
        torch.manual_seed(5)
        found.append(L.log_prob(LAW, x, by=L.ode(L.hutchinson(2), steps=5)).value)
    assert torch.equal(*found)
    assert not torch.equal(found[0], L.log_prob(LAW, x, by=L.ode(L.hutchinson(2), steps=5)).value)


def test_hutchinson_is_the_default_for_long_rows():
    flow = fm.FlowMap(Affine(torch.randn(65, 65, generator=torch.Generator().manual_seed(0)) / 8))
    x = torch.randn(3, 65, generator=torch.Generator().manual_seed(1))
    assert L.log_prob(flow, x, by=L.ode(steps=2)).standard_error.shape == (3,)
    assert L.log_prob(flow, x, by=L.ode(steps=2)).passes == 8 * 5
    assert L.log_prob(flow, x, by=L.ode(L.exact(), steps=2)).passes == 8 * 66
    short = fm.FlowMap(Affine(torch.eye(64)))
    assert L.log_prob(short, x[:, :64], by=L.ode(steps=2)).standard_error is None


# --- cost -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "values"),
    [(L.ode(steps=3), 8), (L.ode(L.hutchinson(4), steps=3), 8), (L.ode(L.differences(2), steps=3), 8)],
    ids=["exact", "hutchinson", "differences"],
)
def test_the_flops_are_those_of_the_passes(by, values):
    """No more than 1.2 times the passes that it reports."""
    from torch.utils.flop_counter import FlopCounterMode

    flow = fm.FlowMap(fm.networks.ConcatMLP((values,), width=64, depth=2))
    x = torch.randn(8, values)
    with torch.no_grad(), FlopCounterMode(display=False) as one:
        flow.velocity(x, 0.5)
    with FlopCounterMode(display=False) as counter:
        passes = L.log_prob(flow, x, by=by).passes
    assert 0.5 < counter.get_total_flops() / one.get_total_flops() / passes <= 1.2


def test_passes_are_counted():
    x = draws(4)
    assert L.log_prob(LAW, x, by=L.ode(steps=5)).passes == 5 * 4 * 3
    assert L.log_prob(LAW, x, by=L.ode(L.hutchinson(4), L.grid(5, heun))).passes == 5 * 2 * 5
    assert L.log_prob(LAW, x, by=L.ode(solver=L.grid(7, euler))).passes == 7 * 3


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_solver_without_tolerance_is_refused():
    """torchdiffeq would take the whole way in a single step, with an error of more than a nat."""
    for method in ("rk4", "euler", "midpoint", "implicit_adams", "no_such_solver", 5):
        with pytest.raises(ValueError, match="grid"):
            L.adaptive(method)
    x = draws(20)
    fixed = L.log_prob(LAW, x, by=L.ode(EXACT, L.adaptive("heun3", options={"step_size": 0.02}))).value
    torch.testing.assert_close(fixed, LAW.log_prob(x), rtol=0, atol=1e-3)


def test_partial_and_untrained_velocities_are_refused():
    net = network().network
    x = draws(3)
    for by in (L.ode(), L.bound(2)):
        with pytest.raises(ValueError, match="partial"):
            L.log_prob(fm.FlowMap(net, only_source=1.0), x, by=by)
        with pytest.raises(ValueError, match="partial"):
            L.log_prob(fm.FlowMap(net, only_target=0.0), x, by=by)
        flow = fm.FlowMap(net)
        flow.trained = fm.TrainedSpec(velocity=False)
        with pytest.raises(ValueError, match="velocity is untrained"):
            L.log_prob(flow, x, by=by)
        flow.trained = fm.TrainedSpec(velocity=True)
        L.log_prob(flow, x, by=by)
        with pytest.raises(TypeError, match="wrap the network"):
            L.log_prob(net, x, by=by)


def test_settings_are_checked():
    for start in (-0.1, 1.0, 1.5):
        with pytest.raises(ValueError, match="start"):
            L.ode(start=start)
    with pytest.raises(ValueError, match="steps"):
        L.ode(steps=0)
    with pytest.raises(ValueError, match="power"):
        L.grid(3, power=0.0)
    with pytest.raises(ValueError, match="rtol"):
        L.adaptive(rtol=0.0)


def test_a_steered_velocity_is_refused_or_differenced():
    """Its gradient detaches the state: forward mode loses it. Differences have the density of the tilted law."""
    from tests.beds import bed_a

    bed = bed_a()
    tilted, log_z = bed.tilted
    steered = fm.steering.tilt(
        bed.law, lambda flow, x, t: tilted.log_prob(x, t) - bed.law.log_prob(x, t) + log_z, limit=1e4
    )
    x = tilted.sample(10, torch.Generator().manual_seed(0))
    for chunk in (1, 16):
        with pytest.raises(TypeError, match="differences"):
            L.log_prob(steered, x, by=L.ode(L.exact(chunk)))
    found = L.log_prob(steered, x, by=L.ode(Table(2, h=1e-3), steps=20))
    assert float((found.value - tilted.log_prob(x)).abs().max()) < 0.05
    assert float((bed.law.log_prob(x) - tilted.log_prob(x)).abs().max()) > 1


def test_parts_of_another_kind_are_refused_by_name():
    for divergence in (L.hutchinson, L.grid(3), 4):
        with pytest.raises(TypeError, match="a divergence is"):
            L.ode(divergence)
    for solver in (5, L.grid, L.adaptive, "dopri5"):
        with pytest.raises(TypeError, match="solver"):
            L.ode(solver=solver)
    x = draws(3)
    for by in (lambda flow, x: x.sum(1), lambda flow, x: L.LogProb(x), lambda flow, x: None):
        with pytest.raises(TypeError, match="LogProb with a value for each of 3 rows"):
            L.log_prob(LAW, x, by=by)
    with pytest.raises(ValueError, match="shape of a row"):
        L.bits_per_dim(x[:, 0], 64)
