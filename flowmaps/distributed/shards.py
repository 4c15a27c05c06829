"""Sharded tensors: detect them, gather them, and write and read them as parts of a checkpoint.

torch.distributed.checkpoint writes the shards as safetensors. Its default file format is not used, because its index is
a pickle; no pickle is written or read.
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

from ..files import checksum, load_tensors, tensor_shapes

FOLDER = "shards"
"""Folder of the shards in a checkpoint."""
Parts = Mapping[str, Mapping[str, Tensor]]
"""Tensors of each part of a checkpoint, by name."""
T = TypeVar("T")
M = TypeVar("M", bound=nn.Module)


def is_sharded(tensor: Any) -> bool:
    """Whether a tensor is sharded over processes. DTensor is imported only in a process group."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def world_group() -> Any:
    """The group of all processes; None without a process group."""
    return dist.group.WORLD if dist.is_available() and dist.is_initialized() else None


def run_on_all(work: Callable[[], T], group: Any = None) -> list[T]:
    """Call a function on each process of a group, and gather the results on all of them.

    Args:
        work: The function.
        group: The processes; all of them call this. None: only this process.

    Returns:
        The result of `work` on each process.

    Raises:
        OSError: On all processes, if `work` raised an exception on any of them; it lists the reasons.
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


def local_part(tensor: Any) -> Tensor:
    """Return the shard of a tensor on this process, or the tensor if it is not sharded."""
    return tensor.to_local() if is_sharded(tensor) else tensor


def unshard(module: M) -> M:
    """Copy a module with all its weights gathered, for sampling; all processes call it together.

    Args:
        module: A module, sharded or not.

    Returns:
        The copy, or the module itself if nothing in it is sharded.
    """
    sharded = {id(weight): weight for weight in module.parameters() if is_sharded(weight)}
    return copy.deepcopy(module, {key: gathered(weight) for key, weight in sharded.items()}) if sharded else module


def unshard_in_place(modules: Iterable[nn.Module]) -> None:
    """Replace the sharded weights of modules by gathered ones; all processes call it together."""
    uses = [
        (part, name, weight)
        for module in modules
        for part in module.modules()
        for name, weight in part.named_parameters(recurse=False, remove_duplicate=False)
        if is_sharded(weight)
    ]
    sharded = {id(weight): weight for _, _, weight in uses}
    whole = {key: gathered(weight) for key, weight in sharded.items()}
    for part, name, weight in uses:
        setattr(part, name, whole[id(weight)])


def gathered(weight: Any) -> nn.Parameter:
    """Gather a sharded weight into a new parameter."""
    return nn.Parameter(weight.detach().full_tensor(), weight.requires_grad)


def storage() -> Any:
    """Import torch's module that stores shards as safetensors.

    Raises:
        ImportError: If this version of torch does not have it.
    """
    try:
        from torch.distributed.checkpoint import hf_storage
    except ImportError:
        raise ImportError(
            "checkpoints of sharded weights need torch.distributed.checkpoint.hf_storage, which torch "
            f"{torch.__version__} does not have: use a newer torch, or train without shard=True"
        ) from None
    return hf_storage


def write_shards(folder: Path, parts: Parts, group: Any) -> dict[str, str]:
    """Write the tensors of this process into `folder`/shards. Tensors that all processes hold are written once.

    Args:
        folder: The folder of the checkpoint.
        parts: The tensors of each part of the checkpoint, by name.
        group: The processes; all of them call this.

    Returns:
        Checksums of the files that this process wrote, by name.

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
    """Read the tensors of one part of a checkpoint, written whole or in shards. Other processes are not needed.

    Args:
        checkpoint: The folder of the checkpoint.
        part: The name of the part.
        like: Tensors by name. If one is sharded and has the size of the tensor that is read, the result is sharded in
            the same way, and only the shard of this process is read.

    Returns:
        The tensors by name; on the CPU unless they are sharded.
    """
    if not (checkpoint / FOLDER).is_dir():
        found = load_tensors(checkpoint / f"{part}.safetensors")
        return {name: shard_like(tensor, like.get(name)) for name, tensor in found.items()}
    return _read_shards(checkpoint / FOLDER, part, like)


def part_shapes(checkpoint: Path, part: str) -> dict[str, tuple[int, ...]]:
    """Read the shapes of the tensors of one part of a checkpoint from the headers of its files.

    Args:
        checkpoint: The folder of the checkpoint.
        part: The name of the part.

    Returns:
        The shapes by name.

    Raises:
        ValueError: If a file is of another kind, or shards claim more bytes than their files have.
    """
    if not (checkpoint / FOLDER).is_dir():
        return tensor_shapes(checkpoint / f"{part}.safetensors")
    return {name: tuple(entry.size) for name, entry in _entries(checkpoint / FOLDER, part).items()}


def shard_like(tensor: Tensor, like: Tensor | None) -> Tensor:
    """Shard a whole tensor like another tensor.

    Args:
        tensor: The tensor.
        like: A sharded tensor of the same size.

    Returns:
        The sharded tensor, or `tensor` itself if `like` is not sharded or has another size.
    """
    if not is_sharded(like) or like is None or like.shape != tensor.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    model: Any = like
    return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)


def _read_shards(folder: Path, part: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read the tensors of one part that was written in shards."""
    from torch.distributed.checkpoint import load

    tensors = {
        f"{part}.{name}": _empty_like(entry.size, entry.properties.dtype, like.get(name))
        for name, entry in _entries(folder, part).items()
    }
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        load(tensors, storage_reader=storage().HuggingFaceStorageReader(str(folder)), no_dist=True)
    return {name.removeprefix(f"{part}."): tensor for name, tensor in tensors.items()}


def _entries(folder: Path, part: str) -> dict[str, Any]:
    """Read size and dtype of each tensor of one part that was written in shards, by name."""
    from safetensors import SafetensorError

    try:
        known = storage().HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        sizes = {name: entry.size.numel() * entry.properties.dtype.itemsize for name, entry in known.items()}
    except (SafetensorError, ValueError, KeyError, AttributeError, RuntimeError, RecursionError) as error:
        raise ValueError(f"{folder} cannot be read as shards of safetensors: {error}") from None
    there = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    if sum(sizes.values()) > there:
        raise ValueError(f"the tensors of {folder} claim {sum(sizes.values())} bytes, and its files have {there}")
    return {name.removeprefix(f"{part}."): entry for name, entry in known.items() if name.startswith(f"{part}.")}


def _empty_like(size: torch.Size, dtype: torch.dtype, like: Tensor | None) -> Tensor:
    """Create an empty tensor to read into, sharded like `like` if the sizes agree."""
    if is_sharded(like) and like is not None and like.shape == size:
        return torch.empty_like(like, dtype=dtype, requires_grad=False)
    return torch.empty(size, dtype=dtype)


def cpu_copies(tensors: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Copy tensors to contiguous CPU memory; sharded tensors stay sharded."""
    return {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format) for name, tensor in tensors
    }
