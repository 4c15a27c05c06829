"""Training on several processes gives the numbers of a single one, whatever the method."""

from tests.distributed.cases import METHODS, differences, trained
from tests.distributed.launch import attempt, run

WAYS = {
    "DDP": {},
    "DDP, parts": {"accumulate": 2, "clip": 0.3},
    "shards": {"shard": True, "clip": 0.3},
    "shards, parts": {"shard": True, "accumulate": 3},
}
HELD_IN_PROPORTION = ("auxiliary network", "adversarial")
"""By means over the parts that are taken together, which accumulated ones are not."""


def runs(ways, methods, batch_size):
    return {
        (way, name): attempt(lambda name=name, options=options: trained(METHODS[name](), batch_size, **options))
        for way, options in ways.items()
        for name in methods
        if not ("accumulate" in options and name in HELD_IN_PROPORTION)
    }


def compared(processes, ways, methods, batch_size):
    """The runs that are not those of a single process."""
    alone = {clip: {name: trained(METHODS[name](), batch_size, clip=clip) for name in methods} for clip in (None, 0.3)}
    wrong = {}
    for rank, found in enumerate(run(runs, processes, ways, methods, batch_size)):
        for (way, name), result in found.items():
            if lines := differences(alone[ways[way].get("clip")][name], result):
                wrong[f"process {rank}, {way}, {name}"] = lines
    return wrong


def test_two_processes_train_as_one():
    assert compared(2, WAYS, tuple(METHODS), 24) == {}


def test_four_processes_train_as_one_on_a_batch_that_does_not_divide():
    ways = {"DDP": {}, "shards": {"shard": True}}
    assert compared(4, ways, ("jvp, detached", "auxiliary network", "phases"), 27) == {}
