"""Sharded tensors: recognise them, gather them again, and write and read them as parts of a checkpoint.

Checkpoints are written by torch.distributed.checkpoint as safetensors. Its own file format is not used, because it
keeps its index as a pickle; nothing here writes or reads one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..files import checksum, load_tensors

FOLDER = "shards"
Parts = Mapping[str, Mapping[str, Tensor]]
T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is sharded over processes. DTensor is imported only if there are several processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def everyone() -> Any:
    """The group of all processes; None for a single one."""
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None


def together(work: Callable[[], T], group: Any = None) -> list[T]:
    """Do some work on each process of a group, and exchange the results.

    Args:
        work: The function to call.
        group: The processes, all of which call this. None: this one alone.

    Returns:
        What `work` returned on each process.

    Raises:
        OSError: On all processes, if `work` raised an Exception on any of them, with the reasons.
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


def here(tensor: Any) -> Tensor:
    """The part of a tensor that this process holds."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def unshard(module: M) -> M:
    """Copy a module with all its weights whole, for sampling; all processes call it together.

    Args:
        module: A module, sharded or not.

    Returns:
        The copy, or the module itself if nothing in it is sharded.
    """
    spread = {id(weight): weight for weight in module.parameters() if is_sharded(weight)}
    return copy.deepcopy(module, {key: gathered(weight) for key, weight in spread.items()}) if spread else module


def release(modules: Iterable[nn.Module]) -> None:
    """Make the weights of modules whole in place, as before they were sharded; all processes call it together."""
    places = [
        (part, name, weight)
        for module in modules
        for part in module.modules()
        for name, weight in part.named_parameters(recurse=False, remove_duplicate=False)
        if is_sharded(weight)
    ]
    spread = {id(weight): weight for _, _, weight in places}
    known = {key: gathered(weight) for key, weight in spread.items()}
    for part, name, weight in places:
        setattr(part, name, known[id(weight)])


def gathered(weight: Any) -> nn.Parameter:
    """A sharded weight, made whole."""
    return nn.Parameter(weight.detach().full_tensor(), weight.requires_grad)


def storage() -> Any:
    """Import torch's module for shards as safetensors.

    Raises:
        ImportError: If this torch has none.
    """
    try:
        from torch.distributed.checkpoint import hf_storage
    except ImportError:
        raise ImportError(
            "checkpoints of weights that are spread over processes need torch.distributed.checkpoint.hf_storage, which "
            f"torch {torch.__version__} has not: use a newer torch, or train without shard=True"
        ) from None
    return hf_storage


def write_shards(folder: Path, parts: Parts, group: Any) -> dict[str, str]:
    """Write the tensors that this process holds into `folder`/shards; those that all of them hold are written once.

    Args:
        folder: The folder of the checkpoint.
        parts: The tensors of each part of the checkpoint, by name.
        group: The processes, all of which call this.

    Returns:
        The checksums of the files that were written here.

    Raises:
        OSError: On all processes, if one of them fails.
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
    """Read the tensors of one part of a checkpoint, written whole or in shards. Needs no other process.

    Args:
        checkpoint: The folder of the checkpoint.
        part: The name of the part.
        like: Tensors by name. One that is read for a sharded tensor of the same size comes back sharded like it, and
            only the share of this process is read.

    Returns:
        The tensors by name, on the CPU if they are not sharded.
    """
    if not (checkpoint / FOLDER).is_dir():
        found = load_tensors(checkpoint / f"{part}.safetensors")
        return {name: spread(tensor, like.get(name)) for name, tensor in found.items()}
    return _read_shards(checkpoint / FOLDER, part, like)


def spread(tensor: Tensor, like: Tensor | None) -> Tensor:
    """Shard a tensor that this process has whole.

    Args:
        tensor: The tensor.
        like: A sharded tensor of the same size, whose placement it gets.

    Returns:
        The sharded tensor, or `tensor` itself if `like` is not sharded or has another size.
    """
    if not is_sharded(like) or like is None or like.shape != tensor.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    model: Any = like
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)


def _read_shards(folder: Path, part: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part that was written in shards."""
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
    """An empty tensor to read into, sharded like another one of its size."""
    if is_sharded(like) and like is not None and like.shape == size:
        return torch.empty_like(like, dtype=dtype, requires_grad=False)
    return torch.empty(size, dtype=dtype)


def copies(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Contiguous copies of tensors in the memory of the CPU, sharded as they were."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, tensor in tensors
    }
