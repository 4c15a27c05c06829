"""Self-conditioning: a network that sees its own first guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least, shown
from ..serialise import describable


@describable
class SelfConditioned(nn.Module):
    """A network that sees its own guess beside the state: network([x, g], s, t), g = link(network([x, 0], s, t)).

    The first pass has no gradient to the weights. In training every other row has g = 0, so that the first pass is
    trained too. It costs a forward pass more.

    Args:
        network: The inner network, of states whose last dimension has `size` columns more. Of its value the first
            `size` columns count.
        size: Columns of the value, such as the number of classes.
        link: Function from the value to the guess, such as `fm.links.softmax`.

    Raises:
        TypeError: The link is no function.
        ValueError: The size is below 1.

    Any method trains it and any sampler takes it, for the guess depends on the state and the times alone. Samplers of
    the paper reuse the guess of the step before. Chen, Zhang and Hinton 2022, arXiv 2208.04202; CDCD, arXiv 2211.15089.
    """

    passes_time_to = "network"

    def __init__(self, network: nn.Module, size: int, link: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        at_least(1, size=size)
        if not callable(link) or isinstance(link, type):
            raise TypeError(f"a link is a function value -> guess, such as fm.links.softmax, got {shown(link)}")
        self.network, self.size, self.link = network, size, link

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate both passes at x (B, ..., d), with times s and t (B,) and the conditions of the inner network."""
        nothing = x.new_zeros(*x.shape[:-1], self.size)
        with torch.no_grad():
            guess = self.link(self._value(x, nothing, s, t, **condition)).to(x.dtype)
        if self.training:
            odd = torch.arange(len(x), device=x.device) % 2 == 1
            guess = torch.where(odd.reshape(-1, *[1] * (x.ndim - 1)), guess, nothing)
        return self._value(x, guess, s, t, **condition)

    def _value(self, x: Tensor, guess: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        return self.network(torch.cat([x, guess], -1), s, t, **condition)[..., : self.size]
