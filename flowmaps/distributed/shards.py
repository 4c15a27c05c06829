"""The parts of a checkpoint whose tensors are spread over processes, by torch.distributed.checkpoint as safetensors.

Its own file format is not used: that one keeps its index as a pickle. Nothing here writes or reads one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ..files import checksum, load_tensors

FOLDER = "shards"
Parts = Mapping[str, Mapping[str, Tensor]]
T = TypeVar("T")


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is spread over processes. (Asked without importing DTensor where there are no processes.)"""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def everyone() -> Any:
    """The group of all processes; None where there is one."""
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None


def together(work: Callable[[], T], group: Any = None) -> list[T]:
    """What `work` returns on each process of a group; on this one alone where there is no group.

    Raises OSError on all of them where it raises an Exception on any, with the reasons.
    """
    if group is None:
        return [work()]
    mine: tuple[T | None, str | None]
    try:
        mine = work(), None
    except Exception as error:
        mine = None, f"process {dist.get_rank()}: {error}"
    found: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(found, mine, group=group)
    reasons = [reason for _, reason in found if reason is not None]
    if reasons:
        raise OSError("; ".join(reasons))
    return [result for result, _ in found]


def storage() -> Any:
    """torch's module for shards as safetensors. Raises ImportError for a torch that has none."""
    try:
        from torch.distributed.checkpoint import hf_storage
    except ImportError:
        raise ImportError(
            "checkpoints of weights that are spread over processes need torch.distributed.checkpoint.hf_storage, which "
            f"torch {torch.__version__} has not: use a newer torch, or train without shard=True"
        ) from None
    return hf_storage


def write_shards(folder: Path, parts: Parts, group: Any) -> dict[str, str]:
    """Write what this process holds into `folder`/shards; what all of them hold is written once.

    To be called by all processes of the group. Returns the checksums of the files written here. Raises OSError on all
    where one fails.
    """
    from torch.distributed.checkpoint import CheckpointException, save

    place = folder / FOLDER
    tensors = {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    writer = storage().HuggingFaceStorageWriter(str(place), save_distributed=True)
    try:
        save(tensors, storage_writer=writer, process_group=group)
    except CheckpointException as error:
        reasons = (f"process {rank}: {failure[0]}" for rank, failure in error.failures.items())
        raise OSError("; ".join(reasons)) from error
    mine = place.glob(f"shard-{dist.get_rank(group) + 1:05d}-*.safetensors")
    return {f"{FOLDER}/{file.name}": checksum(file) for file in mine}


def read_part(checkpoint: Path, part: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part, whether it was written whole or in shards.

    On the CPU; but those of which `like` holds a sharded one of the same size come back spread like it, and only what
    belongs to this process is read. Needs no other process, whatever their number was and is.
    """
    if not (checkpoint / FOLDER).is_dir():
        found = load_tensors(checkpoint / f"{part}.safetensors")
        return {name: spread(tensor, like.get(name)) for name, tensor in found.items()}
    return _read_shards(checkpoint / FOLDER, part, like)


def spread(tensor: Tensor, like: Tensor | None) -> Tensor:
    """A tensor that this process has whole, spread over the processes like another one of its size; else as it is."""
    if not is_sharded(like) or like is None or like.shape != tensor.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    model: Any = like
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)


def _read_shards(folder: Path, part: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    from torch.distributed.checkpoint import load

    reader = storage().HuggingFaceStorageReader(str(folder))
    known = reader.read_metadata().state_dict_metadata
    start = f"{part}."
    tensors = {
        name: _room(entry.size, entry.properties.dtype, like.get(name.removeprefix(start)))
        for name, entry in known.items()
        if name.startswith(start)
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        load(tensors, storage_reader=reader, no_dist=True)
    return {name.removeprefix(start): tensor for name, tensor in tensors.items()}


def _room(size: torch.Size, dtype: torch.dtype, like: Tensor | None) -> Tensor:
    if is_sharded(like) and like is not None and like.shape == size:
        return torch.empty_like(like, dtype=dtype, requires_grad=False)
    return torch.empty(size, dtype=dtype)


def copies(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Contiguous copies in the memory of the CPU, spread as they were."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, tensor in tensors
    }
