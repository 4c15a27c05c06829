"""Initial weights: spectral ones, and those of a map of two times from a network of one."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


@torch.no_grad()
def spectral_(module: M) -> M:
    """Draw the weights of all linear layers anew, in place: Xavier's uniform, divided by the largest singular value.

    Each layer then has the Lipschitz constant 1 (the initialisation of TVM, arXiv 2511.19797). Biases become zero.
    Layers whose weights are all zero, such as outputs, stay as they are, and so do convolutions and embeddings.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear) and layer.weight.any():
            nn.init.xavier_uniform_(layer.weight)
            layer.weight /= torch.linalg.matrix_norm(layer.weight, 2)
            if layer.bias is not None:
                layer.bias.zero_()
    return module
