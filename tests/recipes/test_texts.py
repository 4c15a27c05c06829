"""The recipe for tokens: network, output, method, learning rate and rows of a step."""

import pytest
import torch

import flowmaps as fm
from flowmaps.recipes.by_data import rate_for
from flowmaps.recipes.sizes import token_rows


def data(length=6, size=5, classes=None):
    rows = torch.arange(40 * length).reshape(40, length) % size
    return fm.data.tokens(rows, size, label=None if classes is None else torch.arange(40) % classes)


def test_tokens_get_a_transformer_with_a_softmax_and_jumps_stay_in_the_simplex():
    flow = fm.recipes.flow_for(data(classes=3), classes=3, width=64, depth=2).double()
    assert isinstance(flow.network, fm.networks.TokenTransformer) and flow.network.shape == (6, 5)
    assert flow.output == fm.Endpoint(link=fm.links.softmax)
    torch.nn.init.normal_(flow.network.output.weight)
    noise = torch.randn(4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for steps in (1, 3):
        x = fm.sample(flow, noise, steps, condition=torch.tensor([0, 1, 2, 3]))
        assert bool((x >= 0).all()) and torch.allclose(x.sum(-1), torch.ones(4, 6, dtype=torch.float64))
    assert fm.recipes.method_name(data()) == "dfm_psd" == fm.recipes.method_for(data(), diagonal=0.25).name


def test_the_times_of_tokens_are_on_the_clock_of_their_number():
    """Half of the uniform times on the clock of 5 classes lie above clock(1/2); the standard error is 0.008."""
    torch.manual_seed(0)
    diagonal, jumps = fm.recipes.method_for(data()).terms
    like, half = torch.empty(0, 6, 5), float(fm.times.flm_clock(5)(torch.tensor(0.5)))
    s, _ = diagonal.times(4000, 0.0, like)
    assert abs((s > half).double().mean() - 0.5) < 0.032 and not 0.47 < half < 0.53
    s, t = jumps.times(4000, 0.0, like)
    assert bool((t <= s).all()) and ((s == 1) & (t == 0)).double().mean() > 0.02
    plain = fm.recipes.method_for(data(), diagonal_times=fm.times.uniform_diagonal()).terms[0]
    assert abs((plain.times(4000, 0.0, like)[0] > 0.5).double().mean() - 0.5) < 0.032


@pytest.mark.parametrize(("width", "rate"), [(64, 3e-3), (128, 3e-3), (512, 7.5e-4)])
def test_wide_transformers_get_a_smaller_learning_rate(width, rate):
    assert rate_for(fm.recipes.texts(data(), width, 1)) == pytest.approx(rate)
    assert rate_for(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))) is None


def test_a_step_on_a_cpu_has_about_2048_tokens():
    assert [token_rows(data(length)) for length in (4, 32, 512)] == [256, 64, 16]
    assert token_rows(data(32), "cuda") == 256


def test_exact_tables_are_tokens_too():
    known = fm.data.as_data(fm.exact.Categorical(torch.eye(3) / 3))
    assert (known.kind, known.shape) == ("tokens", (2, 3)) and known.exact is not None
