"""Data of which only the shape is known."""

from itertools import islice

import pytest
import torch

import flowmaps as fm


def test_it_says_its_shape_and_nothing_else():
    assert fm.data.nothing is fm.data.no_data
    data = fm.data.no_data((3, 4, 4), 10)
    batch = next(data.batches(5))
    assert (data.shape, data.kind, data.classes, data.size) == ((3, 4, 4), "images", 10, None)
    assert torch.equal(batch.x0, torch.zeros(5, 3, 4, 4)) and batch.label.shape == (5,) and batch.noise is None
    assert next(fm.data.no_data([2]).batches(5)).label is None
    assert fm.data.no_data((3, 4, 4), kind="vectors").kind == "vectors"


def test_labels_are_a_function_of_seed_and_index():
    data = fm.data.no_data((2,), 7)
    whole = list(islice(data.batches(100, seed=3), 6))
    again = list(islice(data.batches(100, seed=3, start=4), 2))
    assert all(torch.equal(a.label, b.label) for a, b in zip(whole[4:], again, strict=True))
    assert not torch.equal(whole[0].label, whole[1].label)
    assert not torch.equal(whole[0].label, next(data.batches(100, seed=4)).label)
    assert set(torch.cat([batch.label for batch in whole]).tolist()) == set(range(7))


def test_there_are_no_rows_to_look_at():
    data = fm.data.no_data((2,))
    for ask in (lambda: data.draw(3), lambda: data.held_out(3), lambda: data.std):
        with pytest.raises(ValueError, match="there are no rows to draw"):
            ask()


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match=r"shape\[1\] must be at least 1, got 0"):
        fm.data.no_data((2, 0))
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        fm.data.no_data((2,), 0)
