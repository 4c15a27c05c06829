"""Processes to be harmed: forked from one that has imported everything, so that each starts in a moment."""

import multiprocessing
import os
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
import torch.distributed as dist

import flowmaps as fm
from flowmaps.training import train

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "torch._dynamo",
        "torch.distributed.fsdp",
        "torch.distributed.checkpoint.hf_storage",
        "flowmaps.training",
        "pytest",
    ]
)
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8, "log_every": 5}
DATA = fm.exact.Gaussian(torch.tensor([0.5, -0.5]), torch.tensor([1.0, 0.5]))


def flow(width=8):
    torch.manual_seed(0)
    return fm.FlowMap(fm.networks.MLP(2, width=width, depth=1))


def go_on(out, **options):
    """Train a small flow: a new run, or the one that is there."""
    plan = {"steps": 180, "checkpoint_every": 2, "schedule": fm.training.constant, **QUIET, **options}
    there = out is not None and (Path(out) / "config.json").is_file()
    return train(flow(), fm.methods.shortcut(), DATA, out=out, resume=there, **plan)


def same(one, other):
    """Whether two flows hold the same weights, bit for bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@contextmanager
def child(work, *arguments, **options):
    """A process that does `work(connection, *arguments, **options)`; gives (process, connection), and ends it."""
    mine, its = SERVER.Pipe()
    process = SERVER.Process(target=work, args=(its, *arguments), kwargs=options)
    process.start()
    its.close()
    try:
        yield process, mine
    finally:
        process.kill()
        process.join()


def train_and_tell(connection, out, **options):
    """Train, telling the number of each step. What is raised is told before it is raised."""
    try:
        for state in go_on(out, **options):
            connection.send(state.step)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")
        raise


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def one_of(connection, work, rank, count, port, *arguments, **options):
    """Do `work(connection, *arguments, **options)` as one of several processes, as torchrun starts them."""
    known = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    known |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    os.environ.update({name: str(value) for name, value in known.items()})
    torch.set_num_threads(1)
    work(connection, *arguments, **options)
    dist.destroy_process_group()


@contextmanager
def children(count, work, *arguments, **options):
    """Several processes that train together; a list of what `child` gives."""
    port = free_port()
    with ExitStack() as stack:
        parts = [child(one_of, work, rank, count, port, *arguments, **options) for rank in range(count)]
        yield [stack.enter_context(part) for part in parts]
