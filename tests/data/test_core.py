"""The contract that every data set keeps: batches are full, deterministic, resumable, and never show held-out rows."""

from itertools import islice

import pytest
import torch

from flowmaps.data import as_data, load
from flowmaps.data.core import DRAW, HELD_OUT, TRAIN, Data, generator
from flowmaps.data.data_free import with_zero_rows
from flowmaps.data.sources import TensorRows, hold_out
from flowmaps.data.transforms import LabelDropout, transformed

NAMES = ("checkerboard", "eight_gaussians", "two_moons", "spirals", "gaussian", "mixture", "digits", "photos", "series")


def numbered(n):
    """Rows that are their own number."""
    return as_data(torch.arange(n, dtype=torch.float64)[:, None].repeat(1, 3))


def numbers(batch):
    return batch.x0[:, 0].long().tolist()


@pytest.mark.parametrize("name", NAMES)
def test_batches_are_a_function_of_seed_and_index(name):
    data = load(name)
    whole = list(islice(data.batches(200, seed=3), 12))
    for start in (0, 5, 8):
        for batch, again in zip(whole[start:], data.batches(200, seed=3, start=start), strict=False):
            assert torch.equal(batch.x0, again.x0)
            assert (batch.label is None) == (again.label is None) == (data.classes is None)
            assert batch.label is None or torch.equal(batch.label, again.label)
    assert not torch.equal(whole[0].x0, next(data.batches(200, seed=4)).x0)
    assert not torch.equal(whole[0].x0, whole[1].x0)


@pytest.mark.parametrize("name", NAMES)
def test_rows_have_the_promised_shape_and_ignore_the_global_seed(name):
    data = load(name)
    torch.manual_seed(0)
    first = data.draw(50, seed=1).x0, data.held_out(50, seed=1).x0
    torch.manual_seed(1)
    state = torch.get_rng_state()
    again = data.draw(50, seed=1).x0, data.held_out(50, seed=1).x0
    assert torch.equal(torch.get_rng_state(), state)
    for x, y in zip(first, again, strict=True):
        assert x.shape == (50, *data.shape) and x.dtype == torch.float32 and torch.equal(x, y)
    assert not torch.equal(first[0], first[1])


def test_an_epoch_shows_each_training_row_once():
    data = numbered(50)
    held = set(numbers(data.held_out(1000)))
    assert len(held) == 10 and data.size == 40
    batches = list(islice(data.batches(8, seed=2), 10))
    for epoch in (batches[:5], batches[5:]):
        assert sorted(n for batch in epoch for n in numbers(batch)) == sorted(set(range(50)) - held)
    assert numbers(batches[0]) != numbers(batches[5])


def test_an_incomplete_batch_is_dropped_and_another_one_the_next_epoch():
    data = numbered(50)
    batches = list(islice(data.batches(12), 60))
    assert all(len(set(numbers(batch))) == 12 for batch in batches)
    assert all(len({n for b in batches[i : i + 3] for n in numbers(b)}) == 36 for i in range(0, 60, 3))
    assert len({n for batch in batches for n in numbers(batch)}) == 40


def passes_of(order, rows):
    return [order[i : i + rows] for i in range(0, len(order) - rows + 1, rows)]


@pytest.mark.parametrize("batch_size", [40, 41, 100])
def test_a_batch_of_the_size_of_the_set_or_larger_is_full_and_even(batch_size):
    data = numbered(50)
    for batch in islice(data.batches(batch_size), 3):
        counts = torch.bincount(batch.x0[:, 0].long(), minlength=50)
        seen = counts[counts > 0]
        assert len(batch.x0) == batch_size and len(seen) == 40 and int(seen.max() - seen.min()) <= 1
    passes = [tuple(order) for batch in islice(data.batches(batch_size), 3) for order in passes_of(numbers(batch), 40)]
    assert len(set(passes)) == len(passes) == 3 * (batch_size // 40), "every pass over the set has an order of its own"


def test_held_out_rows_never_appear_in_training():
    data = numbered(30)
    held = set(numbers(data.held_out(30)))
    assert held.isdisjoint(n for batch in islice(data.batches(7), 40) for n in numbers(batch))
    assert held.isdisjoint(numbers(data.draw(1000)))
    assert len(set(numbers(data.draw(24)))) == 24, "drawn without replacement while there are enough"


def test_the_held_out_part_is_a_fifth_at_most_ten_thousand_and_fixed():
    assert [len(numbered(n).held_out(10**6).x0) for n in (2, 4, 9, 10, 60_000)] == [1, 1, 1, 2, 10_000]
    assert set(numbers(numbered(40).held_out(99, seed=0))) == set(numbers(numbered(40).held_out(99, seed=1)))


def test_one_row_is_kept_for_training():
    data = as_data(torch.ones(1, 3))
    assert torch.equal(next(data.batches(4)).x0, torch.ones(4, 3))
    with pytest.raises(ValueError, match="no held-out rows"):
        data.held_out(1)


def test_roles_never_share_a_generator():
    seeds = [{generator(s, i, role).initial_seed() for s in range(-2, 30) for i in range(30)} for role in range(3)]
    assert len(set.union(*seeds)) == 3 * 32 * 30
    assert {TRAIN, DRAW, HELD_OUT} == {0, 1, 2}
    assert all(seed < 2**32 for group in seeds for seed in group), "torch reads 32 bits of a seed"


def test_numbers_that_make_no_sense_are_refused_at_once():
    data = numbered(10)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        data.batches(0)
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        data.batches(2, start=-1)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        data.draw(0)
    with pytest.raises(ValueError, match="n must be at least 1, got -3"):
        data.held_out(-3)


def test_pixels_are_for_images():
    x = torch.tensor([-1.5, -1.0, 0.0, 1.0, 3.0])
    assert torch.equal(load("digits").to_pixels(x), torch.tensor([0.0, 0.0, 0.5, 1.0, 1.0]))
    with pytest.raises(TypeError, match=r"gaussian holds points of shape \(2,\)"):
        load("gaussian").to_pixels(x)


def test_std_is_measured_over_all_entries():
    data = as_data(torch.tensor([[-2.0, 2.0, -2.0]]).repeat(100, 1))
    # population deviation of {-2, 2, -2} is sqrt(4 - 4/9)
    assert data.std == pytest.approx((4 - 4 / 9) ** 0.5, rel=1e-3)


def told(n, names=("text",)):
    """Rows that are their own number, and say it again by name."""
    values = torch.arange(n, dtype=torch.float64)[:, None].repeat(1, 3)
    rows = TensorRows(values, torch.arange(n) % 4, given={"text": values[:, :2] + 0.5})
    return Data("told", (3,), hold_out(rows), "vectors", classes=4, given=names)


def test_what_is_given_by_name_stays_with_its_row():
    data = told(50)
    for batch in (next(data.batches(8, rows=slice(1, None, 2))), data.draw(9), data.held_out(4)):
        assert torch.equal(batch.given["text"], batch.x0[:, :2] + 0.5)
    assert next(data.batches(8, rows=slice(1, None, 2))).given["text"].shape == (4, 2)


def test_a_method_without_data_keeps_the_changes_and_what_rows_give():
    assert with_zero_rows(told(50)).source is not None and "text" in next(with_zero_rows(told(50)).batches(4)).given
    bare = with_zero_rows(transformed(told(50, names=()), LabelDropout(0.5, null=4)))
    batch = next(bare.batches(400))
    assert not batch.x0.any() and batch.given is None
    # 0.5 +- 0.025 of the labels are left out
    assert 0.4 < (batch.label == 4).double().mean() < 0.6 and set(batch.label.tolist()) == set(range(5))
