"""Data that give no rows any more: training stops with a sentence instead of waiting for ever."""

import itertools
from dataclasses import replace

import pytest
import torch

import flowmaps as fm
from flowmaps.data import Batch, as_data
from flowmaps.data.sources import EMPTY
from flowmaps.training import train
from tests.faults.children import QUIET, flow

NONE = torch.ones(0, 2)


class Stream:
    """Batches of eight rows; once it is dry, a number of batches without rows, or such batches for ever."""

    def __init__(self, empty):
        self.empty, self.dry = empty, False

    def __iter__(self):
        while not self.dry:
            yield torch.ones(8, 2)
        yield from itertools.repeat(NONE) if self.empty is None else itertools.repeat(NONE, self.empty)


@pytest.mark.parametrize(
    ("empty", "message"),
    [
        (None, f"gave {EMPTY} batches without rows one after another: this Stream must give rows"),
        (5, "must give at least one batch with rows, and this Stream gave none"),
        (0, "must give at least one batch with rows, and this Stream gave none"),
    ],
)
def test_a_stream_that_gives_no_rows_any_more_ends_training_with_a_sentence(empty, message, tmp_path):
    stream = Stream(empty)
    plan = {"steps": 100, "checkpoint_every": 2, "out": tmp_path / "run", **QUIET}
    steps = []
    kept = r"the batch of step 4 cannot be read: .*; the checkpoint of step 2 is kept\. Check the data"
    with pytest.raises(ValueError, match=f"(?=.*{message}){kept}"):
        for state in train(flow(), fm.methods.flow_matching(), as_data(stream), **plan):
            steps.append(state.step)
            stream.dry = state.step == 3
    assert steps == [1, 2, 3] and fm.load(tmp_path / "run") is not None


def test_empty_batches_between_others_are_passed_over():
    batches = [torch.full((4, 2), float(i)) if i % 3 == 0 else torch.ones(0, 2) for i in range(3 * EMPTY // 2)]
    data = as_data(batches)
    found = torch.cat([batch.x0 for batch in itertools.islice(data.batches(8), 4)])
    assert torch.equal(found[:, 0], torch.arange(0, 24, 3).repeat_interleave(4).float())


class Ending:
    """A source of one's own whose batches end, or have no rows."""

    size = None

    def __init__(self, last):
        self.last = last

    def batches(self, batch_size, seed, start, rows):
        yield from [Batch(torch.ones(batch_size, 2)[rows])] * 3
        yield from self.last

    def draw(self, n, seed):
        return Batch(torch.ones(n, 2))

    held_out = draw


@pytest.mark.parametrize(
    ("last", "message"),
    [([], "there is no batch for step 4: mine must give"), ([Batch(NONE)], "there are no rows in the batch of step 4")],
)
def test_a_source_whose_batches_end_is_named_with_the_checkpoint(last, message, tmp_path):
    data = replace(as_data(torch.ones(9, 2)), name="mine", source=Ending(last), known_std=1.0)
    plan = {"steps": 100, "checkpoint_every": 2, "out": tmp_path / "run", **QUIET}
    with pytest.raises(ValueError, match=rf"{message}.*; the checkpoint of step 2 is kept"):
        list(train(flow(), fm.methods.flow_matching(), data, **plan))
