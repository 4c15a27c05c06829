"""Functions run by several processes at once, which meet through a file."""

import multiprocessing
import os
import tempfile
import traceback

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from accelerate import Accelerator

multiprocessing.set_forkserver_preload(
    ["flowmaps.distributed.sharding", "flowmaps.training", "tests.distributed.cases"]
)


def run(work, processes, *arguments):
    """What `work(*arguments)` returns in each process."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (processes, folder, work, arguments)
        mp.start_processes(_process, arguments, nprocs=processes, start_method="forkserver")
        return [torch.load(f"{folder}/{rank}", weights_only=False) for rank in range(processes)]


def _process(rank, processes, folder, work, arguments):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_WORLD_SIZE=str(processes))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=processes)
    assert Accelerator(cpu=True).num_processes == processes  # else all comparisons would be of one process with itself
    torch.save(work(*arguments), f"{folder}/{rank}")
    dist.barrier()
    dist.destroy_process_group()


def attempt(work, *arguments):
    """What `work` returns, or what it raises as text."""
    try:
        return work(*arguments)
    except Exception:
        return traceback.format_exc()
