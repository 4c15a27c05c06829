"""A network of diffusers by its config: with weights, with fewer layers, or on tensors without memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Model:
    """A network of diffusers by its config.

    Args:
        class_name: Class of the network in diffusers.
        config: Arguments of the class.
        layers: Arguments that are numbers of equal layers. Each is a number, or a tuple with the number at its end.
    """

    class_name: str
    config: Mapping[str, Any]
    layers: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Numbers of equal layers, by argument."""
        return {name: _last(self.config[name]) for name in self.layers}

    def with_layers(self, **counts: int) -> Model:
        """The same network with other numbers of equal layers, by argument."""
        changed = {name: _with_last(self.config[name], count) for name, count in counts.items()}
        return replace(self, config={**self.config, **changed})

    def network(self) -> nn.Module:
        """Make the network, with new weights."""
        from ..integrations.diffusers.networks import DiffusersNetwork

        return DiffusersNetwork(self.class_name, self.config)


def _last(value: Any) -> int:
    """The number of layers in an argument."""
    return value if isinstance(value, int) else value[-1]


def _with_last(value: Any, last: int) -> Any:
    """The argument with another number of layers."""
    return last if isinstance(value, int) else (*value[:-1], last)


def move_to_cpu(*modules: nn.Module) -> None:
    """Replace tensors on the meta device by empty ones on the CPU. A tensor that modules share stays shared."""
    new: dict[Tensor, Tensor] = {}
    for part in (part for module in modules for part in module.modules()):
        for name, old in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            if old not in new:
                empty = torch.empty_like(old, device="cpu")
                new[old] = nn.Parameter(empty, old.requires_grad) if isinstance(old, nn.Parameter) else empty
            setattr(part, name, new[old])


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Make new weights in this dtype inside a `with` block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
