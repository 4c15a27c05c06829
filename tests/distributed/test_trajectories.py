"""Training on several processes gives the numbers of a single one, whatever the method."""

import pytest

from flowmaps.methods import LANDSCAPE
from tests.distributed.cases import FROZEN, METHODS, case, differences, of_landscape
from tests.distributed.launch import attempt, run

WAYS = {
    "DDP": ({}, (*METHODS, *FROZEN)),
    "shards": ({"shard": True, "clip": 0.3}, (*METHODS, *FROZEN)),
    "DDP, parts": ({"accumulate": 2, "clip": 0.3}, ("jvp, on the graph", "stages")),
    "shards, parts": ({"shard": True, "accumulate": 3}, ("jvp, detached", "phases")),
}
FOUR = {"DDP": ({}, ("jvp, detached", "auxiliary network")), "shards": ({"shard": True, "clip": 0.3}, ("phases",))}


def runs(ways, batch_size):
    return {
        (way, name): attempt(lambda name=name, options=options: case(name, batch_size, **options))
        for way, (options, methods) in ways.items()
        for name in methods
    }


def compared(processes, ways, batch_size):
    """The runs that are not those of a single process."""
    alone, wrong = {}, {}
    for rank, found in enumerate(run(runs, processes, ways, batch_size)):
        for (way, name), result in found.items():
            clip = ways[way][0].get("clip")
            if (name, clip) not in alone:
                alone[name, clip] = case(name, batch_size, clip=clip)
            if lines := differences(alone[name, clip], result):
                wrong[f"process {rank}, {way}, {name}"] = lines
    return wrong


def every_method():
    """One after the other with whole weights and with spread ones."""
    return {
        row.name: attempt(lambda row=row, k=k: of_landscape(row.name, shard=k % 2 == 1))
        for k, row in enumerate(LANDSCAPE)
    }


@pytest.mark.slow
def test_every_method_of_the_landscape_trains_on_two_processes_as_on_one():
    alone = {row.name: of_landscape(row.name) for row in LANDSCAPE}
    for found in run(every_method, 2):
        assert {name: lines for name in alone if (lines := differences(alone[name], found[name]))} == {}


@pytest.mark.slow
def test_two_processes_train_as_one():
    assert compared(2, WAYS, 24) == {}


@pytest.mark.slow
def test_four_processes_train_as_one_on_a_batch_that_does_not_divide():
    assert compared(4, FOUR, 27) == {}
