"""A network of diffusers by its config, as it is or with fewer layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Model:
    """A network of diffusers: class, arguments, and those of them that are numbers of equal layers, each a number or a
    tuple of which the last counts.
    """

    class_name: str
    config: Mapping[str, Any]
    layers: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Of the layers."""
        return {name: _last(self.config[name]) for name in self.layers}

    def with_layers(self, **counts: int) -> Model:
        """The same network with other numbers of layers."""
        changed = {name: _with_last(self.config[name], count) for name, count in counts.items()}
        return replace(self, config={**self.config, **changed})

    def network(self) -> nn.Module:
        """It, with new weights."""
        from ..integrations.diffusers.networks import DiffusersNetwork

        return DiffusersNetwork(self.class_name, self.config)


def _last(value: Any) -> int:
    return value if isinstance(value, int) else value[-1]


def _with_last(value: Any, last: int) -> Any:
    return last if isinstance(value, int) else (*value[:-1], last)
