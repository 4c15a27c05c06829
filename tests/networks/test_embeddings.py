"""Which layer sees which time, the features of a time, and labels."""

import math

import pytest
import torch

from flowmaps import networks as nets
from flowmaps.networks.embeddings import Conditioning, LabelEmbedding, TimeEmbedding, times_per_layer
from flowmaps.serialise import build, describe


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (nets.pair, [((0.75, 0.25), 6)]),
        (nets.gap, [((0.75, 0.5), 6)]),
        (nets.gap_only, [((0.5,), 6)]),
        (nets.source_only, [((0.75,), 6)]),
        (nets.expanded, [((0.75,), 6)]),  # 1 - 0.75 + 2 * 0.25
        (nets.none, [((), 6)]),
        (nets.decoupled, [((0.75,), 4), ((0.25,), 2)]),
        (nets.Decoupled(0.99), [((0.75,), 5), ((0.25,), 1)]),
        (nets.Decoupled(0.01), [((0.75,), 1), ((0.25,), 5)]),
    ],
)
def test_what_the_layers_see(times, expected):
    assert times(0.75, 0.25, 6) == expected
    assert times_per_layer(times, 6) == len(expected[0][0])
    assert build(describe(times)) == times


def test_expanded_time_is_1_minus_s_to_the_data_and_1_plus_s_on_the_diagonal():
    s = torch.linspace(0, 1, 11, dtype=torch.float64)
    [((to_data,), _)], [((diagonal,), _)] = nets.expanded(s, 0 * s, 3), nets.expanded(s, s, 3)
    torch.testing.assert_close(to_data, 1 - s)
    torch.testing.assert_close(diagonal, 1 + s)
    assert to_data[0] == diagonal[0] == 1  # the identity at the data, which both modes know


def test_decoupling_needs_two_layers_and_a_share_between_0_and_1():
    with pytest.raises(ValueError, match="at least 2 layers.*has 1"):
        nets.decoupled(0.5, 0.5, 1)
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        nets.Decoupled(1.0)
    with pytest.raises(ValueError, match="at least 2 layers"):
        nets.ConcatMLP(2, times=nets.decoupled)


def test_a_conditioning_that_forgets_a_layer_is_refused():
    with pytest.raises(ValueError, match="all of 3 layers"):
        nets.MLP(2, depth=3, times=lambda s, t, depth: [((s,), depth - 1)])


def test_fourier_features_are_sines_and_cosines_of_geometric_frequencies():
    time = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    w = torch.tensor([1.0, 3.0, 9.0], dtype=torch.float64)
    expected = torch.stack([(time[:, None] * w).sin(), (time[:, None] * w).cos()], dim=2).flatten(1)
    torch.testing.assert_close(nets.Fourier(3, 1.0, 9.0)(time), expected, atol=1e-14, rtol=0)


def test_fourier_slope_is_bounded_by_the_highest_frequency():
    time = torch.linspace(0, 1, 101, dtype=torch.float64)
    _, slope = torch.func.jvp(nets.Fourier(16, 1.0, 30.0), (time,), (torch.ones_like(time),))
    assert math.isclose(slope.abs().max().item(), 30.0, rel_tol=1e-9)


@pytest.mark.parametrize("options", [{"frequencies": 0}, {"low": 0.0}, {"low": 3.0, "high": 2.0}])
def test_fourier_refuses_frequencies_that_are_none(options):
    with pytest.raises(ValueError, match="0 < low <= high|frequencies must be at least 1"):
        nets.Fourier(**options)


def test_raw_times_stay_as_they_are():
    time = torch.rand(5, 2)
    assert torch.equal(nets.raw(time), time[..., None])


def test_time_embedding_runs_in_float32_under_autocast():
    embed = TimeEmbedding(8, 2, nets.Fourier())
    s, t = torch.rand(2, 6)
    with torch.autocast("cpu", torch.bfloat16):
        inside = embed((s, t))
    assert inside.dtype == torch.float32
    assert torch.equal(inside, embed((s, t)))


def test_bfloat16_weights_still_see_times_in_float32():
    seen = []

    def spy(time):
        seen.append(time.dtype)
        return nets.raw(time)

    network = nets.MLP(2, width=8, depth=2, features=spy).to(torch.bfloat16)
    times = torch.rand(2, 4)
    assert network(torch.randn(4, 2, dtype=torch.bfloat16), *times).dtype == torch.bfloat16
    assert set(seen) == {torch.float32}


def test_null_class_is_the_extra_row():
    label = LabelEmbedding(3, 5)
    assert torch.equal(label(None), label(torch.tensor([3])))
    assert torch.equal(label(1), label(torch.tensor([1])))
    assert torch.equal(label(torch.tensor([2, 0])), label.table.weight[[2, 0]])


@pytest.mark.parametrize(
    ("label", "error", "message"),
    [
        (torch.tensor([0, 4]), ValueError, r"0\.\.2 \(or 3, the null class\), got 4$"),
        (torch.tensor([-1, 7, 0]), ValueError, r"got -1 and 1 more"),
        (-2, ValueError, "got -2"),
        (torch.tensor([0.0]), TypeError, "must be integers, got torch.float32"),
        (torch.tensor([[0], [1]]), ValueError, r"shape \(B,\), got \(2, 1\)"),
    ],
)
def test_bad_labels_are_refused(label, error, message):
    with pytest.raises(error, match=message):
        LabelEmbedding(3, 5)(label)


def test_labels_are_one_for_each_row():
    conditioning = Conditioning(8, 1, nets.pair, nets.Fourier(), 3)
    s = torch.rand(4)
    with pytest.raises(ValueError, match="one for each of the 4 rows of x, got 3"):
        conditioning(s, s, torch.tensor([0, 1, 2]))
    [(one, _)], [(each, _)] = (conditioning(s, s, label) for label in (1, torch.ones(4, dtype=torch.int64)))
    assert torch.equal(one, each)


def test_without_times_the_embedding_is_one_constant():
    conditioning = Conditioning(8, 3, nets.none, nets.Fourier(), None)
    [(first, layers)] = conditioning(torch.rand(2), torch.rand(2), None)
    [(second, _)] = conditioning(torch.rand(2), torch.rand(2), None)
    assert layers == 3
    assert torch.equal(first, second)
