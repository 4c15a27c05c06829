"""A network in outline: made without memory, and compared with the tensors of a checkpoint before it is made."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as hooks

FEW = 20_000
"""Number of parts of a network that are made in outline in any case."""
SMALL = 256 * 2**20
"""Bytes of tensors that a network may have beside those in its checkpoint, such as positions of patches."""


def check_outline(
    make: Callable[[], nn.Module], shapes: Mapping[str, tuple[int, ...]], file: Path, config: Path
) -> None:
    """Compare a network with a checkpoint before it is made, so that it has the sizes of the checkpoint.

    Args:
        make: Makes the network.
        shapes: The shapes of the tensors in the checkpoint, by name.
        file: The checkpoint, for messages.
        config: The file that describes the network, for messages.

    Raises:
        ValueError: If the network has more parts than the checkpoint, or other shapes, or is much larger.
    """
    outline = _outline(make, shapes, file)
    tensors = dict(outline.state_dict(keep_vars=True))
    if unknown := [name for name in shapes if name not in tensors]:
        raise ValueError(f"the weights in {file} do not fit this network: the network of {config} has no {unknown[0]}")
    unfit = [name for name, shape in shapes.items() if name in tensors and tuple(tensors[name].shape) != shape]
    if unfit:
        name = unfit[0]
        raise ValueError(
            f"the weights in {file} do not fit this network: {name} has shape {shapes[name]} there, and "
            f"{tuple(tensors[name].shape)} in the network of {config}"
        )
    backed = {id(tensors[name]) for name in shapes if name in tensors}
    beside = {id(value): value for value in _tensors(outline) if value.is_meta and id(value) not in backed}
    size = sum(math.prod(value.shape) * value.element_size() for value in beside.values())
    if size > SMALL:
        lost = next((name for name in tensors if name not in shapes), "its buffers")
        raise ValueError(
            f"the weights in {file} do not fit this network: in {config} it needs {size / 1e6:,.0f} MB that are not in "
            f"the checkpoint, such as {lost}"
        )


def check_size(make: Callable[[], nn.Module], shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """Compare the size of a network of another library with its weights, before that library makes it.

    Its loader may rename, leave out or add tensors, so the numbers of values are compared instead of names and shapes.

    Args:
        make: Makes the network.
        shapes: The shapes of the tensors in its weight files, by name.
        folder: The folder of its config and weights, for messages.

    Raises:
        ValueError: If the network has far more parts or values than its weights.
    """
    outline = _outline(make, shapes, folder)
    unique = {id(value): math.prod(value.shape) for value in [*outline.parameters(), *outline.buffers()]}
    needed, held = sum(unique.values()), sum(map(math.prod, shapes.values()))
    if needed > held + SMALL // 4:
        raise ValueError(
            f"the config in {folder} describes a network of {needed:,} values, and its weights have {held:,}: restore "
            "the files that belong together"
        )


def _outline(make: Callable[[], nn.Module], shapes: Mapping[str, tuple[int, ...]], file: Path) -> nn.Module:
    """Make a network without memory for its tensors, of a number of parts that is bounded by its weights."""
    with torch.device("meta"), _limited(FEW + 10 * len(shapes), file):
        return make()


def _tensors(network: nn.Module) -> Iterator[Any]:
    """Iterate over the parameters and buffers of a network, without models whose weights are read from a folder."""
    if getattr(network, "reads_folder", False):
        return
    yield from network.parameters(recurse=False)
    yield from network.buffers(recurse=False)
    for part in network.children():
        yield from _tensors(part)


@contextmanager
def _limited(most: int, file: Path) -> Iterator[None]:
    """Refuse networks of more than `most` modules and tensors in this thread (context manager)."""
    thread, count = threading.get_ident(), 0

    def limited(*_: Any) -> None:
        nonlocal count
        if threading.get_ident() == thread:
            count += 1
            if count > most:
                raise ValueError(f"it has more than {most} parts, far more than the weights in {file}")

    with ExitStack() as installed:
        for install in (
            hooks.register_module_module_registration_hook,
            hooks.register_module_parameter_registration_hook,
            hooks.register_module_buffer_registration_hook,
        ):
            installed.callback(install(limited).remove)
        yield
