"""Layers shared by the networks, made of functional tensor operations, so that forward mode passes through them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from ..forward_mode import Dual

M = TypeVar("M", bound=nn.Module)


def full_precision(device: torch.device) -> torch.autocast:
    """Disable autocast, for layers that read a time: bfloat16 cannot distinguish t = 0.999 from t = 1."""
    kind = "cpu" if device.type == "meta" else device.type  # the meta device has no autocast
    return torch.autocast(kind, enabled=False)


def expect_shape(x: Tensor, shape: tuple[int, ...], weight: Tensor | None = None) -> None:
    """Check that x is a batch of shape (B, *shape), on the device and in the dtype of the weights.

    Args:
        x: the batch.
        shape: shape of one row.
        weight: the weight that x meets first. None: the layer converts x.

    Raises:
        ValueError: for any other shape, device or dtype. Autocast converts the dtype.
    """
    if tuple(x.shape[1:]) != shape:
        raise ValueError(f"this network takes x of shape (B, {', '.join(map(str, shape))}), got {tuple(x.shape)}")
    if weight is None:
        return
    if x.device != weight.device:
        raise ValueError(f"x is on {x.device} and the weights of this network on {weight.device}: move one of them")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise ValueError(f"x is {x.dtype} and the weights of this network are {weight.dtype}: pass x.to(flow.like)")


def zero(linear: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """Set weight and bias of a layer to zero, in place, and return it."""
    nn.init.zeros_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
    return linear


@torch.no_grad()
def spectral_(module: M) -> M:
    """Draw the weights of all linear layers again, in place: Xavier uniform, divided by the largest singular value.

    Each layer then has Lipschitz constant 1 (the initialisation of TVM, arXiv 2511.19797). Biases become zero. Layers
    whose weights are all zero, such as outputs, are unchanged, and so are convolutions and embeddings. Returns the
    module.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.weight.any():
            nn.init.xavier_uniform_(layer.weight)
            layer.weight /= torch.linalg.matrix_norm(layer.weight, 2)
            if layer.bias is not None:
                layer.bias.zero_()
    return module


def rms_norm(x: Tensor) -> Tensor:
    """Normalise x / sqrt(mean(x^2) + 1e-6) over the last dimension, without weights."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def unchanged(x: Tensor) -> Tensor:
    """Return x."""
    return x


def learned_norm(size: int) -> nn.RMSNorm:
    """Make an RMSNorm over the last dimension with a learned gain for each of its `size` entries."""
    return nn.RMSNorm(size, eps=1e-6)


def plain_norm(size: int) -> nn.RMSNorm:
    """Make an RMSNorm over the last dimension without weights."""
    return nn.RMSNorm(size, eps=1e-6, elementwise_affine=False)


def chunks(modulation: Tensor, count: int, modulate: Callable[[Tensor], Tensor]) -> Sequence[Tensor]:
    """Cut the last dimension into equal pieces and modulate each.

    Args:
        modulation: (..., count n).
        count: number of pieces.
        modulate: applied to each piece over its last dimension.

    Returns:
        `count` tensors (..., n).
    """
    return modulate(modulation.unflatten(-1, (count, -1))).unbind(-2)


def scale_shift(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Compute x (1 + scale) + shift."""
    return x * (1 + scale) + shift


class SideBySide(nn.Linear):
    """A linear layer on concatenated inputs, W [a, b, ...] + c, computed as the sum W_a a + W_b b + ... + c.

    A derivative then costs nothing for inputs without a tangent.

    Args:
        sizes: size of each input.
        outputs: size of the output.
    """

    def __init__(self, sizes: Sequence[int], outputs: int) -> None:
        super().__init__(sum(sizes), outputs)
        self.sizes = list(sizes)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Apply the layer to inputs (B, sizes[i])."""
        first, *others = self.weight.split(self.sizes, dim=1)
        result = F.linear(inputs[0].to(first.dtype), first, self.bias)
        for part, weight in zip(inputs[1:], others, strict=True):
            result = result + F.linear(part.to(weight.dtype), weight)
        return result


class Modulation(nn.Linear):
    """The scales, shifts and gates of all layers, from one linear layer.

    Args:
        width: width of the conditioning embedding.
        sizes: number of modulations of each layer.
    """

    def __init__(self, width: int, sizes: Sequence[int]) -> None:
        super().__init__(width, sum(sizes))
        self.sizes = list(sizes)

    def forward(self, embeddings: list[tuple[Tensor, int]]) -> list[Tensor]:  # type: ignore[override]
        """Return (B, sizes[i]) for each layer i from the (embedding, layers) of a `Conditioning`."""
        modulations: list[Tensor] = []
        for embedding, layers in embeddings:
            done = len(modulations)
            modulations += super().forward(embedding).split(self.sizes, dim=-1)[done : done + layers]
        return modulations


def called(layer: Callable[..., Any], *inputs: Any) -> Any:
    """Call layer(*inputs)."""
    return layer(*inputs)


def checkpointed(layer: Callable[..., Any], *inputs: Any) -> Any:
    """Call layer(*inputs) and recompute its activations in the backward pass (Chen et al. 2016, arXiv 1604.06174).

    Dual numbers are passed as primal and tangent. Without gradients, and under torch.func, which has no checkpoints,
    the layer is called directly.

    Args:
        layer: the layer.
        *inputs: its inputs; dual numbers are allowed.

    Returns:
        The output of the layer.
    """
    if not torch.is_grad_enabled() or under_torch_func():
        return layer(*inputs)
    of_parts, parts = by_parts(layer, inputs)

    def to_parts(*parts: Any) -> Any:
        y = of_parts(*parts)
        return (y.primal, y.tangent) if isinstance(y, Dual) else y

    y = checkpoint(to_parts, *parts, use_reentrant=False)
    return next(type(x) for x in inputs if isinstance(x, Dual))(*y) if isinstance(y, tuple) else y


def by_parts(layer: Callable[..., Any], inputs: Sequence[Any]) -> tuple[Callable[..., Any], list[Any]]:
    """Write a layer of dual numbers as a function of plain tensors.

    Args:
        layer: the layer.
        inputs: its inputs; dual numbers are allowed.

    Returns:
        The function and its arguments, in which primal and tangent replace each dual number.
    """
    kinds = [type(x) if isinstance(x, Dual) else None for x in inputs]

    def of_parts(*parts: Any) -> Any:
        rest = iter(parts)
        return layer(*(next(rest) if kind is None else kind(next(rest), next(rest)) for kind in kinds))

    return of_parts, [part for x in inputs for part in ((x.primal, x.tangent) if isinstance(x, Dual) else (x,))]


def under_torch_func() -> bool:
    """Tell whether this runs inside a transform of torch.func."""
    return not torch.compiler.is_compiling() and torch._C._functorch.maybe_current_level() is not None


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = False) -> Tensor:
    """Compute softmax(q k^T / sqrt(d)) v.

    The fused kernel is used, except under torch's own forward mode (torch.func.jvp and torch.autograd.forward_ad), for
    which it has no derivative: there the formula is written out, with a warning.

    Args:
        q: queries (B, heads, tokens, d).
        k: keys, of the same shape.
        v: values, of the same shape.
        causal: whether a query sees only keys up to its own position.

    Returns:
        (B, heads, tokens, d).
    """
    if forward_ad._current_level < 0:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    warnings.warn(
        "attention runs unfused under torch's own forward mode, which has no rule for it; flowmaps.derivative.jvp has",
        stacklevel=2,
    )
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(dim=-1) @ v


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (B, N, width), with normalised queries and keys.

    The normalisation bounds the logits and with them the derivatives (Dehghani et al. 2023, arXiv 2302.05442).

    Args:
        width: width of the tokens.
        heads: number of heads.
        norm: makes the normalisation of queries and keys from their size, width / heads.
        place: gives queries and keys (B, heads, N, d) their positions, such as `Rotary`; `unchanged` gives none.
        causal: whether a token sees only the tokens up to its own position.

    Raises:
        ValueError: for a width that is not a multiple of `heads`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        norm: Callable[[int], nn.Module] = learned_norm,
        place: Callable[[Tensor], Tensor] = unchanged,
        causal: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"the width must be a multiple of the number of heads, got width {width} and {heads} heads"
            )
        self.heads, self.place, self.causal = heads, place, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.query_norm = norm(width // heads)
        self.key_norm = norm(width // heads)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the attention to tokens (B, N, width)."""
        batch, tokens, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attention(self.place(self.query_norm(q)), self.place(self.key_norm(k)), v, self.causal)
        return self.out(mixed.transpose(1, 2).flatten(2))


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021, arXiv 2104.09864): pairs of entries of queries and keys turn with the position.

    Entries i and i + d/2 at position n turn by the angle n 10000^(-2 i/d), so that a product of a query and a key
    depends on the distance of their positions alone.

    Args:
        length: number of positions.
        size: number d of entries, an even number.

    Raises:
        ValueError: for an odd size.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, length: int, size: int) -> None:
        super().__init__()
        if size % 2:
            raise ValueError(f"rotary positions turn pairs of entries, and width / heads is the odd number {size}")
        angles = torch.arange(length)[:, None] * 10000.0 ** (-torch.arange(size // 2) / (size // 2))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Turn queries or keys (B, heads, N, d), with N at most the number of positions."""
        first, second = x.chunk(2, dim=-1)
        cos, sin = (part[: x.shape[-2]].to(x.dtype) for part in (self.cos, self.sin))
        return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
