"""Divergences against autograd, the variances of probes against their formulas, and functions that lose derivatives."""

import warnings

import pytest
import torch

import flowmaps as fm
from flowmaps.derivative import along_many, warn_of_one_by_one
from flowmaps.velocity.divergence import jacobian
from tests.likelihood.beds import LAW, draws, standard_error

L = fm.likelihood
KINDS = [L.exact(), L.exact(chunk=1), L.hutchinson(3), L.hutchinson(3, chunk=1), L.differences(3, h=1e-3)]


def field(x):
    return LAW.velocity(x, 0.5)


def slopes(function, x):
    """Jacobians of rows by autograd, (B, D, D)."""
    return torch.stack([torch.autograd.functional.jacobian(lambda one: function(one[None])[0], row) for row in x])


def test_the_exact_trace_is_the_trace_of_autograd():
    x = draws(40)
    expected = slopes(field, x).diagonal(dim1=1, dim2=2).sum(1)
    for chunk in (1, 2, 16):
        trace = L.exact(chunk)
        value, found = trace(field, x, trace.draw(x))
        torch.testing.assert_close(value, field(x), rtol=0, atol=1e-14)
        torch.testing.assert_close(found[:, 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 16])
def test_jacobians_are_those_of_autograd(chunk):
    """Output i in input j at [:, i, j], also for rows that are images."""
    x = draws(8)
    value, found = jacobian(field, x, chunk)
    torch.testing.assert_close(value, field(x), rtol=0, atol=1e-14)
    torch.testing.assert_close(found, slopes(field, x), rtol=0, atol=1e-12)
    matrix = torch.arange(36, dtype=torch.float64).reshape(6, 6)
    images = torch.randn(3, 1, 2, 3, dtype=torch.float64)
    _, found = jacobian(lambda x: (x.flatten(1) @ matrix.T).reshape(x.shape), images, chunk)
    torch.testing.assert_close(found, matrix.expand(3, 6, 6), rtol=0, atol=1e-12)


def estimates(probes, n=200_000):
    """Estimates of the divergence at (.3, -.2), one for each probe."""
    x = torch.tensor([[0.3, -0.2]], dtype=torch.float64).expand(n, 2)
    _, along = along_many(field, x, probes[None])
    return (along[0] * probes).sum(1)


def test_variances_of_probes_are_their_formulas():
    """2 (|J|^2 - sum J_ii^2) for signs, 2 |J|^2 for Gaussians, 2 D/(D + 2) (|J|^2 - tr^2/D) on the sphere."""
    n, generator = 200_000, torch.Generator().manual_seed(0)
    [J] = slopes(field, torch.tensor([[0.3, -0.2]], dtype=torch.float64))
    square, diagonal, trace = J.square().sum(), J.diagonal().square().sum(), J.trace()
    gaussian = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    torch.manual_seed(0)
    cases = {
        "signs": (L.hutchinson(1).draw(gaussian)[0], 2 * (square - diagonal), 1.7151),
        "Gaussian": (gaussian, 2 * square, 16.13),
        "sphere": (gaussian * 2**0.5 / gaussian.norm(dim=1, keepdim=True), square - trace**2 / 2, 1.282),
    }
    for probes, formula, number in cases.values():
        found = estimates(probes)
        assert float(formula) == pytest.approx(number, rel=1e-3)
        assert abs(found.mean() - trace) < 4 * standard_error(found)
        assert float(found.var()) == pytest.approx(number, rel=0.02)


def test_a_table_of_signs_is_exact_in_the_plane():
    """(1, 1) and (1, -1): their mean is the trace of every Jacobian. One of them alone is not."""
    x, table = draws(20), torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    expected = slopes(field, x).diagonal(dim1=1, dim2=2).sum(1)
    probes = table[:, None].expand(2, 20, 2)
    for trace in (L.hutchinson(2), L.differences(2, h=1e-4)):
        _, found = trace(field, x, probes)
        torch.testing.assert_close(found.mean(1), expected, rtol=0, atol=1e-6)
        assert (found[:, 0] - expected).abs().max() > 0.1


def test_differences_need_no_derivative():
    """z.(v(x + h z) - v(x - h z))/2h: an error near 5e-5 at h = 1e-3 in float64, which falls like h^2."""
    x = draws(200)
    for dtype, h, most in ((torch.float64, 1e-3, 1e-3), (torch.float64, 1e-4, 1e-5), (torch.float32, 1e-2, 3e-2)):
        torch.manual_seed(0)
        probes = L.hutchinson(4).draw(x)
        _, exact = L.hutchinson(4)(field, x, probes)
        value, found = L.differences(4, h)(field, x.to(dtype), probes.to(dtype))
        assert found.dtype == dtype and value.shape == x.shape
        assert float((found - exact).abs().max()) < most, (dtype, h)
    errors = []
    for h in (4e-3, 2e-3):
        _, found = L.differences(4, h)(field, x, probes)
        errors.append(float((found - exact).abs().mean()))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("trace", KINDS, ids=str)
def test_passes_are_the_calls_and_directions(trace):
    """The value is shared by directions that are computed together: 1 + D, 1 + probes, or 1 + 2 probes."""
    called = []

    def watched(x):
        called.append(len(x))
        return field(x)

    x = draws(5)
    _, found = trace(watched, x, trace.draw(x))
    assert found.shape == (5, trace.estimates)
    extra = {"ExactTrace": 2, "Hutchinson": 3, "Differences": 6}[type(trace).__name__]
    assert trace.passes(2) == 1 + extra
    if isinstance(trace, L.Differences):
        assert len(called) == 1 + extra
    elif trace.chunk > 1:
        assert len(called) == 1


def test_flops_are_the_counted_passes():
    """Counted by torch: 1 + D passes for the exact trace, and 1 + probes for Hutchinson's."""
    from torch.utils.flop_counter import FlopCounterMode

    flow = fm.FlowMap(fm.networks.ConcatMLP((6,), width=64, depth=2))
    x = torch.randn(8, 6)

    def flops(function):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            function()
        return counter.get_total_flops()

    one = flops(lambda: flow.velocity(x, 0.5))
    assert one > 0
    for trace in (L.exact(), L.hutchinson(4), L.differences(4)):
        probes = trace.draw(x)
        found = flops(lambda trace=trace, probes=probes: trace(lambda x: flow.velocity(x, 0.5), x, probes))
        assert found / one <= 1.2 * trace.passes(6), trace
        assert found / one > 0.5 * trace.passes(6), trace


LOST = {
    "a detached state": lambda x: x * x.detach(),
    "a detached result": lambda x: field(x).detach(),
    "data": lambda x: x.data * 2,
    "numpy": lambda x: torch.from_numpy(x.detach().numpy() * 2),
    "the gradient of a reward": lambda x: field(x) + gradient(x),
    "a constant": lambda x: torch.ones_like(x),
}


def gradient(x):
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad(leaf.square().sum(), leaf)[0]


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("chunk", [1, 16])
def test_a_derivative_is_never_lost_without_a_word(name, chunk):
    """Before, chunk=1 and one probe took such a function for a constant. Differences compute it right."""
    x = draws(5)
    for trace in (L.exact(chunk), L.hutchinson(1, chunk=chunk)):
        with torch.no_grad(), pytest.raises(TypeError, match=r"is lost on the way.*differences"):
            trace(LOST[name], x, trace.draw(x))
    table = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)[:, None].expand(2, 5, 2)
    _, found = L.differences(2, 1e-4)(LOST[name], x, table)
    scale = {"a detached state": 2 * x.sum(1), "data": 4.0, "numpy": 4.0, "a constant": 0.0}
    if name in scale:
        torch.testing.assert_close(found.mean(1), torch.zeros(5, dtype=torch.float64) + scale[name], atol=1e-6, rtol=0)


def test_inference_mode_loses_the_derivative_of_torch_func():
    def frozen(x):
        with torch.inference_mode():
            return 2 * x

    x = draws(3)
    with pytest.raises(TypeError, match="lost"):
        along_many(frozen, x, torch.eye(2, dtype=torch.float64)[:, None])


def test_a_detached_constant_is_no_lost_derivative():
    scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
    x = draws(3)
    for trace in (L.exact(), L.exact(chunk=1)):
        _, found = trace(lambda x: scale.detach() * x, x, trace.draw(x))
        torch.testing.assert_close(found[:, 0], torch.full((3,), 4.0, dtype=torch.float64))


def test_a_network_that_torch_func_cannot_follow_is_followed_one_by_one():
    """Dropout in training draws numbers, which all derivatives share."""
    drop = torch.nn.Dropout(0.5)
    x = torch.ones(50, 2, dtype=torch.float64)
    warn_of_one_by_one.cache_clear()
    with pytest.warns(UserWarning, match="chunk=1"):
        found = jacobian(drop, x)
    for value, slope in (found, jacobian(drop, x, chunk=1)):
        torch.testing.assert_close(slope.diagonal(dim1=1, dim2=2), value)
        assert 0.2 < float((value == 0).double().mean()) < 0.8
    drop.eval()
    for chunk in (1, 16):
        value, slope = jacobian(drop, x, chunk)
        torch.testing.assert_close(slope.diagonal(dim1=1, dim2=2), value)


def test_an_error_of_the_network_itself_is_shown():
    x = draws(3)
    with warnings.catch_warnings(), pytest.raises(RuntimeError, match="mat1 and mat2|must match|size"):
        warnings.simplefilter("error", UserWarning)
        L.exact()(lambda x: x @ torch.ones(3, 3, dtype=x.dtype), x, L.exact().draw(x))


def test_signs_have_the_state_s_dtype_and_the_seed_of_torch():
    x = draws(6)
    torch.manual_seed(3)
    first = L.hutchinson(2).draw(x)
    torch.manual_seed(3)
    assert torch.equal(first, L.hutchinson(2).draw(x)) and first.dtype == x.dtype
    assert set(first.unique().tolist()) == {-1.0, 1.0} and first.shape == (2, 6, 2)


@pytest.mark.parametrize("make", [L.hutchinson, L.differences])
def test_probes_are_counted_from_one(make):
    with pytest.raises(ValueError, match="probes"):
        make(0)


def test_settings_of_divergences_are_checked():
    with pytest.raises(ValueError, match="chunk"):
        L.exact(0)
    with pytest.raises(ValueError, match="h"):
        L.differences(2, h=0.0)
