"""What a network is told beside x, s and t: the class label, where the data has one and the network takes it."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from ..data import Batch, Data
from ..networks.embeddings import LabelEmbedding


def uses_labels(network: nn.Module, data: Data, wanted: bool | None = None) -> bool:
    """Whether training hands labels to the network. None asks the network: ours take a label when they are built with
    classes, another one when its forward has a parameter `label` or takes any keyword.

    Raises ValueError for labels that are wanted and not there.
    """
    if wanted and data.classes is None:
        raise ValueError(f"labels=True needs data with class labels, and {data.name} has none")
    if data.classes is None or wanted is not None:
        return bool(wanted)
    if type(network).__module__.split(".")[0] == "flowmaps":
        return any(isinstance(part, LabelEmbedding) for part in network.modules())
    parameters = inspect.signature(network.forward).parameters
    return "label" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def condition_of(batch: Batch, labels: bool) -> dict[str, Tensor] | None:
    """{"label": (B,)} or None."""
    return {"label": batch.label} if labels and batch.label is not None else None
