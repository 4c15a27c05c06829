"""The networks of `flowmaps.networks` in jax.numpy, with the same names of weights.

network(p, x, s, t) with p a dict of arrays. Linear layers have weights (in, out), convolutions HWIO. Images are
(B, C, H, W) at input and output, and (B, H, W, C) inside.
"""

from __future__ import annotations

import math
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array
Weights = dict[str, Array]


def linear(p: Weights, name: str, x: Array) -> Array:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def conv(p: Weights, name: str, x: Array, stride: int = 1) -> Array:
    kernel = p[f"{name}.weight"]
    edge = kernel.shape[0] // 2
    layout = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, kernel, (stride, stride), [(edge, edge)] * 2, dimension_numbers=layout)
    return y + p[f"{name}.bias"]


def rms_norm(x: Array) -> Array:
    return x * lax.rsqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-6)


def conditioning(p: Weights, s: Array, t: Array) -> Array:
    w = jnp.exp(jnp.linspace(0, math.log(30.0), 16))
    phase = jnp.array([0, math.pi / 2])
    features = [jnp.sin(a[:, None, None] * w[:, None] + phase).reshape(len(a), -1) for a in (s, t)]
    hidden = jax.nn.silu(linear(p, "conditioning.time.inner", jnp.concatenate(features, axis=-1)))
    return linear(p, "modulation", jax.nn.silu(linear(p, "conditioning.time.outer", hidden)))


def depth(p: Weights, name: str) -> int:
    """Number of blocks: name.0., name.1., ..."""
    return next(i for i in count() if not any(key.startswith(f"{name}.{i}.") for key in p))


def mlp(p: Weights, x: Array, s: Array, t: Array) -> Array:
    blocks = depth(p, "blocks")
    modulations = conditioning(p, s, t).reshape(len(x), blocks, 2, -1)
    h = linear(p, "input", x)
    for i in range(blocks):
        scale, shift = modulations[:, i, 0], modulations[:, i, 1]
        inner = jax.nn.silu(linear(p, f"blocks.{i}.inner", rms_norm(h) * (1 + scale) + shift))
        h = h + linear(p, f"blocks.{i}.outer", inner)
    return linear(p, "output", rms_norm(h))


def attention(p: Weights, name: str, x: Array) -> Array:
    size = p[f"{name}.query_norm.weight"].shape[0]
    q, k, v = jnp.moveaxis(linear(p, f"{name}.qkv", x).reshape(*x.shape[:2], 3, -1, size), 2, 0)
    q, k = (rms_norm(y) * p[f"{name}.{which}_norm.weight"] for y, which in ((q, "query"), (k, "key")))
    scores = jax.nn.softmax(jnp.einsum("bihd,bjhd->bhij", q, k) / math.sqrt(size), axis=-1)
    return linear(p, f"{name}.out", jnp.einsum("bhij,bjhd->bihd", scores, v).reshape(x.shape))


def dit(p: Weights, x: Array, s: Array, t: Array) -> Array:
    (batch, channels, height, across), width = x.shape, p["positions"].shape[-1]
    patch = math.isqrt(p["input.weight"].shape[0] // channels)
    pieces = jnp.split(conditioning(p, s, t)[:, None], 6 * depth(p, "blocks") + 2, axis=-1)
    cells = x.reshape(batch, channels, height // patch, patch, across // patch, patch)
    h = cells.transpose(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)
    h = linear(p, "input", h) + p["positions"]
    for i in range(depth(p, "blocks")):
        scale1, shift1, gate1, scale2, shift2, gate2 = pieces[6 * i : 6 * i + 6]
        h = h + gate1 * attention(p, f"blocks.{i}.attention", rms_norm(h) * (1 + scale1) + shift1)
        inner = jax.nn.gelu(linear(p, f"blocks.{i}.inner", rms_norm(h) * (1 + scale2) + shift2), approximate=True)
        h = h + gate2 * linear(p, f"blocks.{i}.outer", inner)
    assert h.shape[-1] == width
    tokens = linear(p, "output", rms_norm(h) * (1 + pieces[-2]) + pieces[-1])
    cells = tokens.reshape(batch, height // patch, across // patch, channels, patch, patch)
    return cells.transpose(0, 3, 1, 4, 2, 5).reshape(x.shape)


def group_norm(x: Array, p: Weights | None = None, name: str = "") -> Array:
    channels = x.shape[-1]
    groups = max(g for g in range(1, 33) if channels % g == 0 and (channels // g >= 4 or g == 1))
    y = x.reshape(len(x), -1, groups, channels // groups)
    mean = y.mean(axis=(1, 3), keepdims=True)
    variance = ((y - mean) ** 2).mean(axis=(1, 3), keepdims=True)
    y = ((y - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape)
    return y if p is None else y * p[f"{name}.weight"] + p[f"{name}.bias"]


def residual(p: Weights, name: str, x: Array, modulation: Array) -> Array:
    scale, shift = jnp.split(modulation[:, None, None], 2, axis=-1)
    h = conv(p, f"{name}.first", jax.nn.silu(group_norm(x, p, f"{name}.first_norm")))
    h = jax.nn.silu(group_norm(h) * (1 + scale) + shift)
    h = conv(p, f"{name}.second", h) + (conv(p, f"{name}.skip", x) if f"{name}.skip.weight" in p else x)
    if f"{name}.attention.norm.weight" not in p:
        return h
    tokens = group_norm(h, p, f"{name}.attention.norm").reshape(len(h), -1, h.shape[-1])
    return h + attention(p, f"{name}.attention.attention", tokens).reshape(h.shape)


def unet(p: Weights, x: Array, s: Array, t: Array) -> Array:
    names = [f"{way}.{i}" for way in ("down", "middle", "up") for i in range(depth(p, way))]
    sizes = [2 * p[f"{name}.first.weight"].shape[-1] for name in names if f"{name}.first.weight" in p]
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    modulations = iter(jnp.split(conditioning(p, s, t), ends, axis=-1))
    h = conv(p, "input", x.transpose(0, 2, 3, 1))
    skips = [h]
    for name in names:
        block = f"{name}.first.weight" in p
        if name.startswith("up") and not block:
            h = conv(p, f"{name}.conv", jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2))
            continue
        if name.startswith("up"):
            h = jnp.concatenate([h, skips.pop()], axis=-1)
        h = residual(p, name, h, next(modulations)) if block else conv(p, name, h, stride=2)
        if name.startswith("down"):
            skips.append(h)
    return conv(p, "output", jax.nn.silu(group_norm(h, p, "output_norm"))).transpose(0, 3, 1, 2)


NETWORKS: dict[str, Any] = {"mlp": mlp, "dit": dit, "unet": unet}
