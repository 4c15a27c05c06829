"""Every method at the exact flow map of a Gaussian of full covariance, on every path, in both directions of time."""

import pytest
import torch

import flowmaps as fm
from flowmaps import derivative
from flowmaps.methods import LANDSCAPE
from tests.methods.support import build
from tests.oracles import PATHS, flow_of, gaussian, jacobian_product, randn, times

MODES = {
    "jvp": derivative.jvp,
    "detached": derivative.detached,
    "separate": derivative.separate,
    "functorch": derivative.functorch,
}


def residuals(name, path, **options):
    """The residuals of all terms, with what the conditional velocity leaves of each of them at the truth."""
    g, n = gaussian(path), 24
    flow, (s, t) = flow_of(g), times(n)
    x0, eps = g.sample(n, torch.Generator().manual_seed(2)), randn(n, 3)
    loss = build(name, g, **options).loss(flow, x0, noise=eps, times=(s, t))
    x = path.interpolate(x0, eps, s)
    noise = path.velocity(x0, eps, s) - g.velocity(x, s)
    return loss.terms, noise, jacobian_product(g, x, s[:, None], t[:, None], noise)


def expected(name, term, noise, carried):
    """Zero where the velocity is a marginal one; otherwise its noise, which has mean zero given x_s."""
    from_pairs = name not in ("splitmeanflow",)
    if term == "diffusion" and from_pairs:
        return -noise
    if term == "eulerian":
        return {"meanflow": -carried, "imf": -noise}.get(name, 0 * noise)
    return 0 * noise


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("name", [row.name for row in LANDSCAPE])
def test_residuals_vanish_at_the_exact_map(name, path):
    terms, noise, carried = residuals(name, path)
    for term, seen in terms.items():
        assert (seen.residual - expected(name, term, noise, carried)).abs().max() < 1e-10


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["lmd", "lsd", "emd", "esd", "meanflow", "imf"])
def test_in_every_derivative_mode(name, mode):
    terms, noise, carried = residuals(name, PATHS["trigonometric"], derivative=MODES[mode])
    for term, seen in terms.items():
        assert (seen.residual - expected(name, term, noise, carried)).abs().max() < 1e-10


@pytest.mark.parametrize("central, order", [(True, 2), (False, 1)])
@pytest.mark.parametrize("name", ["lmd", "lsd", "emd", "esd", "meanflow", "imf"])
def test_finite_differences_at_their_order(name, central, order):
    errors = []
    for h in (2e-3, 1e-3):
        difference = derivative.finite_difference(h, central)
        mode = derivative.time_part(difference, difference) if name == "esd" else difference
        terms, noise, carried = residuals(name, PATHS["linear"], derivative=mode)
        seen = list(terms.values())[-1].residual
        errors.append((seen - expected(name, list(terms)[-1], noise, carried)).abs().max())
    assert torch.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("name", ["ayf_emd", "ayf_lmd"])
@pytest.mark.parametrize("progress, r", [(0.0, 0.0), (0.05, 0.5), (0.5, 0.99)])
def test_warm_up_pulls_towards_the_velocity(name, progress, r):
    """At the truth r times the slope leaves (1 - r) (V - v), with v at x_s or, in the Lagrangian rule, at the end."""
    g, n = gaussian(), 24
    flow, (s, t), x0, eps = flow_of(g), times(n), g.sample(n), randn(n, 3)
    method = getattr(fm.methods, name)(g, warm_up=0.1, largest=0.99)
    loss = method.loss(flow, x0, noise=eps, times=(s, t), progress=progress)
    x = g.path.interpolate(x0, eps, s)
    v = g.velocity(x, s) if name == "ayf_emd" else g.velocity(g.flow_map(x, s, t), t)
    (term,) = loss.terms.values()
    torch.testing.assert_close(term.residual, (1 - r) * (g.average_velocity(x, s, t) - v), rtol=1e-9, atol=1e-9)
