"""Which weights these are, from a few numbers of each: what tells that a model is no longer the one of before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

LOOKED_AT = 64
"""Numbers of each weight that are looked at, evenly spread: training that moves a weight moves more than the others."""


def checksum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and LOOKED_AT numbers of each weight, in hexadecimal; "" for tensors without memory.

    The dtype has no part in it, so that weights in a narrow dtype are the same in a wide one.
    """
    if any(isinstance(weight, FakeTensor) or weight.is_meta for weight in weights.values()):
        return ""
    seen = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        flat = weight.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // LOOKED_AT)].to("cpu", torch.float64)
        seen.update(f"{name} {tuple(weight.shape)} {some.tolist()}".encode())
    return seen.hexdigest()
