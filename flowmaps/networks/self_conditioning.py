"""Self-conditioning: a network that sees its own first guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import shown
from ..serialise import describable


@describable
class SelfConditioned(nn.Module):
    """A network that sees its own guess beside the state: network(x, s, t, estimate=g), g = link(network(x, s, t)).

    The first pass has no gradient to the weights. In training every other row has g = 0, so that the first pass is
    trained too. It costs a forward pass more.

    Args:
        network: The inner network, which takes a guess of the data as the condition `estimate` and reads zeros without
            one, such as `TokenTransformer(..., self_conditioning=True)`.
        link: Function from the value to the guess, such as `fm.links.softmax`.

    Raises:
        TypeError: The link is no function.

    Any method trains it and any sampler takes it, for the guess depends on the state and the times alone. Samplers of
    the paper reuse the guess of the step before. Chen, Zhang and Hinton 2022, arXiv 2208.04202; CDCD, arXiv 2211.15089.
    """

    passes_time_to = "network"

    def __init__(self, network: nn.Module, link: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        if not callable(link) or isinstance(link, type):
            raise TypeError(f"a link is a function value -> guess, such as fm.links.softmax, got {shown(link)}")
        self.network, self.link = network, link

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate both passes at x (B, ..., d), with times s and t (B,) and the conditions of the inner network."""
        with torch.no_grad():
            guess = self.link(self.network(x, s, t, **condition)).to(x.dtype)
        if self.training:
            odd = torch.arange(len(x), device=x.device) % 2 == 1
            guess = torch.where(odd.reshape(-1, *[1] * (x.ndim - 1)), guess, torch.zeros_like(guess))
        return self.network(x, s, t, estimate=guess, **condition)
