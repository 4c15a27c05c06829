"""Laws of tokens: posterior, velocity, flow map and probabilities against sums that are written out."""

import itertools

import pytest
import torch

import flowmaps as fm
from tests.tokens import parity, table, table_tv

LAW = fm.exact.Categorical(table())


def test_the_table_has_its_entropy_and_its_marginals():
    assert LAW.entropy == pytest.approx(1.529677, abs=1e-6) and LAW.shape == (2, 3)
    product = fm.exact.Categorical.independent(LAW.marginals())
    assert float((product.table - LAW.table).abs().sum()) / 2 == pytest.approx(0.44234, abs=1e-5)
    assert float((fm.exact.Categorical.independent(torch.full((3, 2), 0.5)).table - parity()).abs().sum()) / 2 == 0.5
    torch.testing.assert_close(product.marginals(), LAW.marginals())


@pytest.mark.parametrize("path", [fm.path.linear, fm.path.VarianceExploding(5.0)], ids=["linear", "exploding"])
def test_the_denoiser_is_the_posterior_mean(path):
    """Against the sum over all words with Gaussian densities, and the score against autograd of the density."""
    law = fm.exact.Categorical(table(), path=path)
    torch.manual_seed(0)
    x, t = torch.randn(5, 2, 3, dtype=torch.float64), torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0], dtype=torch.float64)
    words = torch.tensor(list(itertools.product(range(3), repeat=2)))
    e, alpha, sigma = law.one_hot(words), path.alpha(t), path.sigma(t)
    gap = (x[:, None] - alpha.reshape(-1, 1, 1, 1) * e).square().flatten(2).sum(2)
    log = law.log_prob_of(words) - gap / (2 * sigma[:, None] ** 2) - 3 * (2 * torch.pi * sigma[:, None] ** 2).log()
    torch.testing.assert_close(law.denoise(x, t), torch.einsum("bw,wlk->blk", log.softmax(1), e))
    torch.testing.assert_close(law.log_prob(x, t), log.logsumexp(1))
    y = x.clone().requires_grad_()
    torch.testing.assert_close(law.score(x, t), torch.autograd.grad(law.log_prob(y, t).sum(), y)[0])


def test_the_exact_map_makes_words_of_the_law():
    """One jump from noise: one-hot rows, all valid, at the floor of 1000 words, .022."""
    generator = torch.Generator().manual_seed(0)
    found = LAW(torch.randn(1000, 2, 3, generator=generator), 1.0, 0.0)
    assert found.dtype == torch.float32 and float(found.sum(-1).sub(1).abs().max()) < 1e-6
    tokens = found.argmax(-1)
    assert bool(LAW.log_prob_of(tokens).isfinite().all()) and table_tv(LAW, tokens) < 0.04
    euler = torch.randn(4000, 2, 3, generator=generator).double()
    assert table_tv(LAW, (euler - LAW.velocity(euler, 1.0)).argmax(-1)) > 0.7  # every row has the same letters


def test_draws_and_probabilities_agree():
    generator = torch.Generator().manual_seed(0)
    x0 = LAW.sample(20_000, generator)
    assert x0.shape == (20_000, 2, 3) and table_tv(LAW, x0.argmax(-1)) < 0.02
    torch.testing.assert_close(LAW.log_prob(x0), LAW.log_prob_of(x0.argmax(-1)))
    assert float(-LAW.log_prob(x0).mean()) == pytest.approx(LAW.entropy, abs=0.01)  # s.e. .003
    assert LAW.log_prob_of(torch.tensor([[0, 1]])).item() == -torch.inf and LAW.sample(0).shape == (0, 2, 3)


def test_jumps_compose_and_end_at_the_data():
    torch.manual_seed(0)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    s, m = (torch.full((3,), time, dtype=torch.float64) for time in (0.9, 0.4))
    torch.testing.assert_close(LAW(LAW(x, s, m), m, 0.1), LAW(x, s, 0.1), atol=1e-7, rtol=0)
    torch.testing.assert_close(LAW.value(x, s, m).softmax(-1), LAW.field(x, s, m))
    torch.testing.assert_close(LAW.field(x, s, s), LAW.denoise(x, s))
    torch.testing.assert_close(LAW(x, s, 0.0), LAW.field(x, s, 0.0), atol=1e-6, rtol=0)
    assert bool(LAW.velocity(LAW.sample(4), 0.0).isfinite().all())


def test_wrong_tables_are_refused():
    for wrong, message in (
        (torch.full((2, 3), 1 / 6), "L dimensions of size K"),
        (torch.tensor([0.5, 0.6]), "with sum 1"),
        (torch.tensor([1.5, -0.5]), "must not be negative"),
        (torch.full((2,) * 17, 2.0**-17), "more than the 65536 that exact sums go over"),
    ):
        with pytest.raises(ValueError, match=message):
            fm.exact.Categorical(wrong)
    with pytest.raises(ValueError, match=r"K\^L <= 65536"):
        fm.exact.Categorical.independent(torch.full((30, 27), 1 / 27))
    with pytest.raises(ValueError, match="must lie in 0, ..., 2"):
        LAW.log_prob_of(torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match=r"takes floating-point x of shape \(B, 2, 3\)"):
        LAW.denoise(torch.randn(4, 3, 2), 0.5)
