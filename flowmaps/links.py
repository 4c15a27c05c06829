"""Links: from the value of a network to the denoised field D of an `fm.Endpoint`.

A link is a function value -> D. The value may have another shape than the state, if the link has `reshapes = True`. The
links of distributions over K classes, `softmax`, `Hull` and a `Capped` of these, have a function `logits` too, which
gives the logits of the classes; the losses of `fm.simplex` are cross-entropies of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .arguments import at_least, expect_floating, numbered, positive, shown
from .serialise import describable

Link = Callable[[Tensor], Tensor]
"""Function from the value of a network to the denoised field."""

__all__ = ["Capped", "Hull", "Link", "Mixed", "capped", "identity", "logits", "softmax", "tanh", "unit_rows"]


def identity(value: Tensor) -> Tensor:
    """The value itself: the network predicts the denoised field."""
    return value


def softmax(value: Tensor) -> Tensor:
    """Probabilities of K classes from logits (..., K): the field lies in the simplex, the hull of one-hot data."""
    return torch.softmax(value, -1)


softmax.logits = identity  # type: ignore[attr-defined]


def tanh(value: Tensor) -> Tensor:
    """Values in (-1, 1), the hull of data of two signs, or of images of this range."""
    return torch.tanh(value)


def unit_rows(embedding: Tensor) -> Tensor:
    """Rows of norm sqrt(d), so that each coordinate has mean square 1 (CDCD, arXiv 2211.15089).

    Args:
        embedding: Rows, (K, d).

    Returns:
        The scaled rows. Gradients pass through the scale.
    """
    return math.sqrt(embedding.shape[1]) * nn.functional.normalize(embedding, dim=1)


@describable
class Hull(nn.Module):
    """The hull of an embedding, D = softmax(value) E: the field is a mean of the rows of E, which are trained.

    Args:
        embedding: Rows E, one for each of K classes, (K, d).
        rows: Function of E that is used in its place, such as `unit_rows`. By default E itself.

    Attributes:
        embedding: The rows as a parameter. A `FlowMap` around the link owns it: it is trained, averaged, saved and
            moved with the network.

    Raises:
        TypeError: The embedding is no floating-point tensor.
        ValueError: It is no matrix.

    States have shape (B, ..., d), and the network returns logits (B, ..., K).
    """

    embedding: nn.Parameter
    reshapes: ClassVar[bool] = True

    def __init__(self, embedding: Tensor, rows: Link = identity) -> None:
        super().__init__()
        expect_floating("embedding", embedding, "(K, d)", least=2)
        if embedding.ndim != 2:
            raise ValueError(f"an embedding of K classes has shape (K, d), got {tuple(embedding.shape)}")
        self.embedding = nn.Parameter(embedding.detach().clone())
        self.rows = rows

    def forward(self, value: Tensor) -> Tensor:
        """The field (..., d) of logits (..., K)."""
        return self.embed(softmax(value))

    def logits(self, value: Tensor) -> Tensor:
        """The logits of the classes: the value itself."""
        return value

    def embed(self, x0: Tensor) -> Tensor:
        """The rows of one-hot data (..., K), or means of rows: x0 E, (..., d)."""
        rows = self.rows(self.embedding).to(x0.dtype)
        if x0.shape[-1] != len(rows):
            raise ValueError(f"an embedding of {len(rows)} classes needs {len(rows)} columns, got {tuple(x0.shape)}")
        with torch.autocast(self.embedding.device.type, enabled=False):
            return torch.matmul(x0, rows)

    def __repr__(self) -> str:
        return f"Hull(classes={self.embedding.shape[0]}, dim={self.embedding.shape[1]})"


@dataclass(frozen=True)
class Mixed:
    """Numbers as they are, and a distribution over the classes of each block behind them, as of `fm.data.Columns`.

    Args:
        numbers: Number D of the first entries, which are the value itself.
        classes: Number K of classes of each block, which is a softmax of its K entries.

    Raises:
        ValueError: There is no block, or one has fewer than two classes.

    Values and states have shape (..., D + K_1 + K_2 + ...). The map is trained by squares of V, as any other: its
    losses are no cross-entropies.
    """

    numbers: int
    classes: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        at_least(0, numbers=self.numbers)
        at_least(2, **numbered(classes=self.classes))
        if not self.classes:
            raise ValueError("a mixed link has one block of classes or more; rows of numbers need links.identity")

    def __call__(self, value: Tensor) -> Tensor:
        """The field of values."""
        width = self.numbers + sum(self.classes)
        if value.shape[-1] != width:
            raise ValueError(f"{self} takes rows of {width} entries, got shape {tuple(value.shape)}")
        numbers, *blocks = value.split((self.numbers, *self.classes), -1)
        return torch.cat([numbers, *map(softmax, blocks)], -1)


@describable
class Capped(nn.Module):
    """Another link of bounded values, link(c tanh(value / c)): no logit is larger than c.

    Args:
        link: The other link.
        bound: The bound c.

    Raises:
        TypeError: The link is no function.
        ValueError: The bound is not positive.
    """

    def __init__(self, link: Link, bound: float = 30.0) -> None:
        super().__init__()
        if not callable(link) or isinstance(link, type):
            raise TypeError(f"a link is a function value -> D, such as fm.links.softmax, got {shown(link)}")
        positive(bound=bound)
        self.link, self.bound = link, bound

    @property
    def reshapes(self) -> bool:
        """Whether the value may have another shape than the state."""
        return bool(getattr(self.link, "reshapes", False))

    @property
    def logits(self) -> Link:
        """Function from the value to bounded logits; an AttributeError for a link without logits."""
        inner = self.link.logits  # type: ignore[attr-defined]
        return lambda value: inner(self._bounded(value))

    def forward(self, value: Tensor) -> Tensor:
        """The field of bounded values."""
        return self.link(self._bounded(value))

    def embed(self, x0: Tensor) -> Tensor:
        """The rows of the other link, a `Hull`."""
        return self.link.embed(x0)  # type: ignore[attr-defined]

    def _bounded(self, value: Tensor) -> Tensor:
        return self.bound * torch.tanh(value / self.bound)

    def __repr__(self) -> str:
        return f"Capped({getattr(self.link, '__name__', repr(self.link))}, bound={self.bound:g})"


def capped(link: Link, bound: float = 30.0) -> Capped:
    """Bound the values of a link, `Capped(link, bound)`: c tanh(value / c), c = 30 as for Flow Language Models."""
    return Capped(link, bound)


def logits(flow: Any) -> Link:
    """The function from the value of a flow map to the logits of its classes.

    Args:
        flow: A flow map, or an exact law with `link`.

    Returns:
        The function.

    Raises:
        ValueError: The output of the flow map has no softmax.
    """
    found = getattr(getattr(flow, "link", None), "logits", None)
    if found is None:
        raise ValueError(
            "this loss is a cross-entropy of class probabilities, and this flow map predicts none: its output needs a "
            "softmax, FlowMap(network, fm.Endpoint(link=fm.links.softmax)), or a links.Hull"
        )
    return found
