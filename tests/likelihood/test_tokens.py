"""The bound of tokens: the entropy for the exact posterior, and a bound for any other map."""

import math

import pytest
import torch

import flowmaps as fm
from tests.tokens import table, token_flow

LAW = fm.exact.Categorical(table())
WORDS = torch.nonzero(LAW.table > 0)
CHANCES = LAW.table[WORDS.unbind(1)]


def mean_bound(flow, law, rows, draws=16):
    """The bound in the mean over the table, with its standard error: each word has as many rows."""
    torch.manual_seed(0)
    x0 = law.one_hot(WORDS).repeat_interleave(rows, 0)
    found = -fm.likelihood.log_prob(flow, x0, by=fm.likelihood.tokens(draws)).value.reshape(len(WORDS), rows)
    return float(CHANCES @ found.mean(1)), float((CHANCES**2 @ found.var(1) / rows).sqrt())


def test_half_the_integral_of_the_error_over_snr_is_the_entropy():
    """Midpoints in log snr; given x_t the expected error is sum p (1 - p), which varies less than |x_0 - p|^2."""
    torch.manual_seed(0)
    x0 = LAW.one_hot(WORDS).repeat_interleave(600, 0)
    points, width = 60, math.log(400 / 1e-4)
    total = torch.zeros(len(WORDS), dtype=torch.float64)
    for k in range(points):
        snr = torch.tensor(1e-4 * math.exp((k + 0.5) / points * width), dtype=torch.float64)
        t = LAW.path.time_of(snr.sqrt(), torch.ones_like(snr))
        p = LAW.denoise(LAW.path.interpolate(x0, torch.randn_like(x0), t), t)
        total += (width / points * snr / 2 * p * (1 - p)).flatten(1).sum(1).reshape(len(WORDS), -1).mean(1)
    assert float(CHANCES @ total) == pytest.approx(LAW.entropy, abs=0.002)


@pytest.mark.parametrize("path", [fm.path.linear, fm.path.VarianceExploding(50.0)], ids=["linear", "exploding"])
def test_the_bound_of_the_exact_law_is_its_entropy(path):
    """Three standard errors, and the ends: low |x_0|^2/2 = 1e-4, or 4e-4 where the noise ends at 50."""
    law = fm.exact.Categorical(table(), path=path)
    found, error = mean_bound(law, law, 800)
    assert error < 0.025 and abs(found - law.entropy) < 3 * error + 5e-4


def test_the_bound_of_another_map_is_above_the_entropy():
    """An untrained softmax, its float32 copy, and a map in the hull of an embedding."""
    flow = token_flow(LAW)
    found, error = mean_bound(flow, LAW, 50)
    assert found > LAW.entropy + 3 * error
    rows = LAW.sample(4).float()
    hull = fm.FlowMap(token_flow(LAW, torch.float32).network, fm.Endpoint(link=fm.links.Hull(torch.eye(3))))
    for one in (token_flow(LAW, torch.float32), hull):
        result = fm.likelihood.log_prob(one, rows, by=fm.likelihood.tokens(4))
        assert result.value.shape == (4,) and bool(result.value.isfinite().all()) and result.passes == 8


def test_what_has_no_probability_of_tokens_is_refused():
    with pytest.raises(ValueError, match="needs a softmax"):
        fm.likelihood.tokens(2)(fm.FlowMap(token_flow(LAW).network), LAW.sample(2))
    with pytest.raises(ValueError, match="a one-hot class"):
        fm.likelihood.tokens(2)(token_flow(LAW), torch.randn(2, 2, 3).double())
    with pytest.raises(ValueError, match="an even number of draws and low < high"):
        fm.likelihood.tokens(3)
