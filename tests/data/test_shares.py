"""Processes share the batches of a data set: each row is read once, by the process whose row it is."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.data import as_data, load
from flowmaps.data.sources import Finite

LOADER = torch.utils.data.DataLoader(torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), batch_size=7)
SOURCES = {
    "fresh": lambda: load("two_moons", labels=True),
    "table": lambda: as_data((torch.randn(45, 3), torch.arange(45) % 4)),
    "stream": lambda: as_data(LOADER),
    "nothing": lambda: fm.data.no_data((3,), classes=4),
    "couplings": lambda: fm.data.reflow(fm.exact.Gaussian(torch.zeros(2), torch.ones(2)), fm.data.no_data((2,)), 30),
}


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("processes", [2, 3])
def test_shares_put_together_are_the_batches_of_one_process(name, processes):
    data = SOURCES[name]()
    shares = zip(
        *(data.batches(11, seed=3, start=2, rows=slice(p, None, processes)) for p in range(processes)), strict=True
    )
    for whole, parts in zip(data.batches(11, seed=3, start=2), islice(shares, 6), strict=False):
        for p, part in enumerate(parts):
            for mine, all_of_them in zip(part, whole, strict=True):
                assert (mine is None) == (all_of_them is None)
                assert mine is None or torch.equal(mine, all_of_them[p::processes])


class Counting:
    """Rows that know how often each was read."""

    def __init__(self, rows):
        self.rows, self.reads = rows, torch.zeros(len(rows), dtype=torch.int64)

    def __len__(self):
        return len(self.rows)

    def take(self, index):
        self.reads += torch.bincount(index, minlength=len(self))
        return self.rows.take(index)


def counted(data):
    rows = Counting(data.source.train)
    return replace(data, source=Finite(rows, None)), rows.reads


def test_an_epoch_reads_each_row_in_one_process_once():
    table, reads = torch.arange(50.0)[:, None].repeat(1, 3), []
    for p in range(4):
        data, seen = counted(as_data(table))
        assert data.size == 40
        list(islice(data.batches(10, seed=1, rows=slice(p, None, 4)), 4))
        reads.append(seen)
    assert [int(seen.sum()) for seen in reads] == [12, 12, 8, 8]
    assert torch.equal(torch.stack(reads).sum(0), torch.ones(40, dtype=torch.int64))


def test_of_a_file_on_disk_a_process_reads_its_own_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("flowmaps.data.arrays.IN_MEMORY", 0)
    np.save(tmp_path / "rows.npy", np.arange(150, dtype=np.float64).reshape(50, 3))
    data, seen = counted(load(tmp_path / "rows.npy", standardise=False))
    assert isinstance(data.source.train.rows.rows.array, np.memmap)
    list(islice(data.batches(8, seed=1, rows=slice(1, None, 2)), 5))
    assert int(seen.sum()) == 20 and int(seen.max()) == 1
