"""Networks of joint maps: a head for the mean divergence, and a network with such a head."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import positive, shown
from ..serialise import describable
from .layers import zero
from .mlp import MLP


@describable
class DivergenceHead(MLP):
    """An MLP that predicts one number for each row: head(x, s, t, label=None) -> (B, 1).

    The output layer starts at zero.

    Args:
        shape: shape of one x, a number for vectors; images are flattened.
        width: width of the hidden layers.
        depth: number of residual blocks.
        classes: number of classes. None: unconditional.
        data_std: standard deviation of the data, which divides the input.
        waves: number of random directions in which the head also sees sines and cosines of x / data_std, see `MLP`.

    Raises:
        TypeError: for a size that is no whole number.
        ValueError: for a size or `data_std` that is not positive, and a size that is too large.
    """

    def __init__(
        self,
        shape: int | tuple[int, ...],
        width: int = 256,
        depth: int = 4,
        *,
        classes: int | None = None,
        data_std: float = 1.0,
        waves: int = 0,
    ) -> None:
        super().__init__(shape, width, depth, classes=classes, data_std=data_std, waves=waves)
        self.output = zero(nn.Linear(width, 1))

    def forward(self, x: Tensor, s: Tensor, t: Tensor, label: Tensor | int | None = None) -> Tensor:
        """Evaluate the head at x (B, *shape), with times s and t (B,) and labels (B,), one integer or None."""
        return self.output(self.features(x, s, t, label)).to(x.dtype)

    @property
    def is_untrained(self) -> bool:
        """Whether the output layer is zero, as at the start."""
        return not any(bool(weight.any()) for weight in self.output.parameters())


@describable
class WithDivergence(nn.Module):
    """A network with a head for D(x, s, t), the mean divergence of the velocity along the path from s to t.

    Called as network(x, s, t) it is the inner network. With `divergence=True` it returns the values of both side by
    side, (B, size + 1), which joint maps use (`fm.likelihood.joint_map`).

    Args:
        network: the inner network, of the state.
        head: a network (x, s, t) -> (B, 1), which predicts D / scale.
        scale: size of the divergence, such as its root mean square.

    Raises:
        TypeError: for a network or a head that is no module.
        ValueError: for a scale that is not positive, and when the head returns another shape.
    """

    passes_time_to = "network"

    def __init__(self, network: nn.Module, head: nn.Module, scale: float = 1.0) -> None:
        super().__init__()
        for name, part in (("network", network), ("head", head)):
            if not isinstance(part, nn.Module):
                raise TypeError(f"the {name} of a joint map is a module, called as {name}(x, s, t), got {shown(part)}")
        positive(scale=scale)
        self.network, self.head, self.scale = network, head, float(scale)

    def forward(self, x: Tensor, s: Tensor, t: Tensor, *, divergence: bool = False, **condition: Any) -> Tensor:
        """Evaluate the network at x (B, *shape), with times s and t (B,) and the conditions of the inner network."""
        value = self.network(x, s, t, **condition)
        if not divergence:
            return value
        found = self.head(x, s, t, **condition)
        if found.shape != (x.shape[0], 1):
            raise ValueError(
                f"the head must return one number for each row, ({x.shape[0]}, 1), got {tuple(found.shape)}"
            )
        return torch.cat([value.reshape(x.shape[0], -1), found.to(value.dtype)], 1)
