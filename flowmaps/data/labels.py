"""Class labels as a condition of networks."""

from __future__ import annotations

import inspect

from torch import nn

from ..networks.embeddings import LabelEmbedding


def takes_labels(network: nn.Module) -> bool:
    """Whether a network takes class labels.

    A network of this library does if it is built with classes, or around a network that lists "label" in `takes`. Any
    other network does if its forward has a parameter `label` or takes any keyword.
    """
    if type(network).__module__.split(".")[0] == "flowmaps":
        parts = list(network.modules())
        return any(isinstance(part, LabelEmbedding) or "label" in getattr(part, "takes", ()) for part in parts)
    parameters = inspect.signature(network.forward).parameters
    return "label" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
