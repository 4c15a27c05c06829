"""Jumps as a normalising flow: the determinant against autograd, mean weights of 1, and errors of few steps."""

import math
import warnings

import pytest
import torch

import flowmaps as fm
from tests.likelihood.beds import LAW, Affine, Jumping, draws, network, randn, standard_error

L = fm.likelihood


def autograd_determinants(function, x):
    """log |det| of each row, by reverse mode."""
    slopes = [torch.autograd.functional.jacobian(lambda one: function(one[None])[0], row) for row in x]
    return torch.linalg.slogdet(torch.stack(slopes))[1]


@pytest.mark.parametrize("chunk", [1, 16])
def test_the_change_of_variables_is_the_determinant_of_autograd(chunk):
    flow, x = network(), draws(12)
    z1 = flow(x, 0.0, 0.5)
    z2 = flow(z1, 0.5, 1.0)
    change = autograd_determinants(lambda x: flow(x, 0.0, 0.5), x) + autograd_determinants(
        lambda x: flow(x, 0.5, 1.0), z1.detach()
    )
    expected = -0.5 * z2.square().sum(1) - math.log(2 * math.pi) + change
    found = L.log_prob(flow, x, by=L.jumps(2, chunk=chunk))
    kept = found.folded == 0
    assert kept.any()
    torch.testing.assert_close(found.value[kept], expected.detach()[kept], rtol=0, atol=1e-12)
    torch.testing.assert_close(found.noise, z2.detach(), rtol=0, atol=1e-12)
    assert found.passes == 2 * 3


def test_samples_have_the_determinant_of_autograd():
    flow, z = network(), randn(12, 2)
    x1 = flow(z, 1.0, 0.5).detach()
    change = autograd_determinants(lambda x: flow(x, 1.0, 0.5), z) + autograd_determinants(
        lambda x: flow(x, 0.5, 0.0), x1
    )
    x, found = L.sample(flow, z, 2)
    expected = (-0.5 * z.square().sum(1) - math.log(2 * math.pi) - change).detach()
    kept = found.isfinite()
    assert kept.any()
    torch.testing.assert_close(found[kept], expected[kept], rtol=0, atol=1e-12)
    torch.testing.assert_close(x, flow(x1, 0.5, 0.0).detach(), rtol=0, atol=1e-12)


def test_an_affine_map_is_known():
    """F = x + A x: log det(1 + A), and both ways agree for its inverse."""
    matrix = torch.tensor([[0.3, -0.4], [0.2, -0.6]], dtype=torch.float64)
    flow, x = fm.FlowMap(Affine(matrix)), draws(10)
    M = torch.eye(2, dtype=torch.float64) + matrix
    expected = -0.5 * (x @ M.T).square().sum(1) - math.log(2 * math.pi) + torch.linalg.slogdet(M)[1]
    torch.testing.assert_close(L.log_prob(flow, x, by=L.jumps()).value, expected)
    z = randn(10, 2, seed=1)
    x0, found = L.sample(flow, z)
    back = torch.eye(2, dtype=torch.float64) - matrix  # (t - s) = -1
    torch.testing.assert_close(x0, z @ back.T)
    torch.testing.assert_close(found, -0.5 * z.square().sum(1) - math.log(2 * math.pi) - torch.linalg.slogdet(back)[1])


def test_the_exact_jump_has_the_exact_density():
    for steps in (1, 3):
        x = draws(60)
        found = L.log_prob(Jumping(), x, by=L.jumps(steps, chunk=1))
        assert float((found.value - LAW.log_prob(x)).abs().mean()) < 2.5e-5 * 1.2


ERRORS = [("euler", 8, 0.31), ("euler", 16, 0.16), ("euler", 64, 0.039), ("heun", 4, 0.19), ("heun", 8, 0.048),
          ("heun", 16, 0.011)]  # fmt: skip


@pytest.mark.parametrize(("step", "steps", "number"), ERRORS)
def test_errors_of_few_steps(step, steps, number):
    """Mean |log p error| from data to noise, without the few rows where a coarse step folds space."""
    x = draws(3000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = L.log_prob(LAW, x, by=L.jumps(steps, step=step, chunk=1))
    kept = found.folded == 0
    assert float((~kept).float().mean()) < 0.04 and bool(found.value[~kept].isnan().all())
    error = (found.value - LAW.log_prob(x))[kept].abs()
    assert float(error.mean()) == pytest.approx(number, rel=0.2, abs=4 * standard_error(error))


# --- E[p / p_N] = 1 ---------------------------------------------------------------------------------------------------

COMPOSITIONS = {
    "Euler 8": (LAW, 8, "euler", 0.6),
    "Heun 4": (LAW, 4, "heun", 0.96),
    "one exact jump": (Jumping(), 1, "jump", 0.9999),
    "a jump with an error": (Jumping(error=0.05), 1, "jump", 0.9),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_the_mean_weight_of_every_composition_is_one(name):
    """Whatever the quality of the map: the density is the one of its own samples."""
    flow, steps, step, ess = COMPOSITIONS[name]
    x, found = L.sample(flow, randn(4000, 2), steps, step=step, chunk=1)
    weights = (LAW.log_prob(x) - found).exp()
    assert bool(found.isfinite().all())
    assert abs(float(weights.mean()) - 1) < 4 * standard_error(weights) + 1e-5
    out = L.importance(found, -LAW.log_prob(x))
    assert out.ess > ess and out.log_z == pytest.approx(float(weights.mean().log()), abs=1e-9)


def test_a_sum_of_divergences_is_no_log_determinant():
    """The negative control: summed along 8 Euler steps the mean weight is 1.23, and along 4 Heun steps .59."""
    z, trace = randn(4000, 2), L.exact(chunk=1)
    for step, steps, number in ((fm.steps.euler, 8, 1.23), (fm.steps.heun, 4, 0.59)):
        states = fm.trajectory(LAW, z, steps, step=step)
        with torch.no_grad():
            sums = [
                trace(lambda x, t=1 - k / steps: LAW.velocity(x, t), x, trace.draw(x))[1][:, 0]
                for k, x in enumerate(states[:-1])
            ]
        log_p = -0.5 * z.square().sum(1) - math.log(2 * math.pi) + sum(sums) / steps
        found = (LAW.log_prob(states[-1]) - log_p).exp()
        assert float(found.mean()) == pytest.approx(number, abs=4 * standard_error(found) + 0.01)
        assert abs(float(found.mean()) - 1) > 8 * standard_error(found)


# --- both ways --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_ways_agree_for_the_exact_map():
    z = randn(50, 2)
    x, found = L.sample(Jumping(), z, 2, chunk=1)
    back = L.log_prob(Jumping(), x, by=L.jumps(2, chunk=1))
    torch.testing.assert_close(back.value, found, rtol=0, atol=1e-3)
    torch.testing.assert_close(back.noise, z, rtol=0, atol=1e-4)


def test_folded_rows_are_named_and_have_no_density():
    """F = -2 x reflects one coordinate: its determinant is negative, and |det| would be no density."""
    flow = fm.FlowMap(Affine([[-3.0, 0.0], [0.0, 0.0]]))
    with pytest.warns(UserWarning, match="fold space") as said:
        found = L.log_prob(flow, torch.randn(5, 2), by=L.jumps())
    folds = [one for one in said if "fold space" in str(one.message)]
    assert [one.filename for one in folds] == [__file__]  # the caller's line, not one of the library
    assert found.value.isnan().all() and found.folded.tolist() == [1] * 5
    flow = fm.FlowMap(Affine([[3.0, 0.0], [0.0, 0.0]]))
    with pytest.warns(UserWarning, match="from noise to data"):
        _, value = L.sample(flow, torch.randn(5, 2))
    assert value.isnan().all()
    with pytest.warns(UserWarning):  # two folds have a positive determinant, and are no less folded
        found = L.log_prob(fm.FlowMap(Affine([[-6.0, 0.0], [0.0, 0.0]])), torch.randn(5, 2), by=L.jumps(2))
    assert found.folded.tolist() == [2] * 5 and found.value.isnan().all()


def test_a_flat_map_is_folded():
    with pytest.warns(UserWarning, match="fold"):
        found = L.log_prob(fm.FlowMap(Affine([[-1.0, 0.0], [0.0, 0.0]])), torch.randn(5, 2), by=L.jumps())
    assert found.value.isnan().all()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_random_steps_are_refused():
    for step in ("ancestral", "restart", "sde", fm.steps.sde(0.5), fm.steps.gamma(0.5)):
        with pytest.raises(ValueError, match="random step"):
            L.jumps(4, step=step)
        with pytest.raises(ValueError, match="random step"):
            L.sample(LAW, randn(3, 2), 4, step=step)


def test_maps_of_one_direction_or_one_end_are_refused():
    net, x = network().network, draws(3)
    with pytest.raises(ValueError, match=r"s = 0 to t = 1.*likelihood.sample"):
        L.log_prob(fm.FlowMap(net, only_target=0.0), x, by=L.jumps())
    with pytest.raises(ValueError, match=r"s = 1 to t = 0.5"):
        L.sample(fm.FlowMap(net, only_target=0.0), x, 2)
    L.sample(fm.FlowMap(net, only_source=1.0), x)
    flow = fm.FlowMap(net)
    flow.trained = fm.TrainedSpec(down=True, up=False)
    with pytest.raises(ValueError, match=r"from noise to data.*likelihood.sample"):
        L.log_prob(flow, x, by=L.jumps())
    L.log_prob(flow, x, by=L.jumps(2, step="heun"))  # its velocity is trained
    L.sample(flow, x)
    flow.trained = fm.TrainedSpec(down=False, up=True)
    L.log_prob(flow, x, by=L.jumps())
    with pytest.raises(ValueError, match="from data to noise") as raised:
        L.sample(flow, x)
    assert "likelihood.sample" not in str(raised.value)
    flow.trained = fm.TrainedSpec(down=False, up=False)
    with pytest.raises(ValueError, match="has a velocity but no jumps"):
        L.log_prob(flow, x, by=L.jumps())


def test_the_way_ends_at_the_noise():
    """The density is known at t = 1 alone."""
    with pytest.raises(ValueError, match="end at 1"):
        L.jumps(times=[0.0, 0.5])
    with pytest.raises(ValueError, match="other way"):
        L.jumps(times=[1.0, 0.0])
    with pytest.raises(ValueError, match="begin at 1"):
        L.sample(LAW, randn(3, 2), times=[0.9, 0.0])
    with pytest.raises(ValueError, match="contradict"):
        L.jumps(3, times=[0.0, 1.0])
    with pytest.raises(ValueError, match="chunk"):
        L.jumps(chunk=0)
    x, times = draws(20), [0.0, 0.1, 0.4, 1.0]
    found = L.log_prob(Jumping(), x, by=L.jumps(times=times, chunk=1))
    assert found.passes == 9 and float((found.value - LAW.log_prob(x)).abs().max()) < 1e-2


def test_a_network_without_a_flow_map_is_refused():
    with pytest.raises(TypeError, match="wrap the network"):
        L.log_prob(torch.nn.Linear(2, 2), torch.randn(3, 2), by=L.jumps())


def test_a_step_that_is_not_finite_is_named():
    flow = fm.FlowMap(Affine([[float("inf"), 0.0], [0.0, 1.0]]))
    with pytest.raises(FloatingPointError, match="not finite"):
        L.log_prob(flow, torch.randn(3, 2), by=L.jumps())
    with pytest.raises(FloatingPointError, match="not finite"):
        L.sample(flow, torch.randn(3, 2))
