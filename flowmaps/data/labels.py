"""Class labels as conditions: whether a network takes them, whether a run uses them, and the conditions of a batch."""

from __future__ import annotations

import inspect

from torch import Tensor, nn

from ..networks.embeddings import LabelEmbedding
from ..sampling import by_name
from .core import Batch, Data


def takes_labels(network: nn.Module) -> bool:
    """Whether a network takes class labels.

    A network of this library takes a label if it was built with classes, or if it wraps a network that lists "label"
    in `takes`. Any other network takes one if its forward has a parameter `label` or accepts any keyword.
    """
    if type(network).__module__.split(".")[0] == "flowmaps":
        parts = list(network.modules())
        return any(isinstance(part, LabelEmbedding) or "label" in getattr(part, "takes", ()) for part in parts)
    parameters = inspect.signature(network.forward).parameters
    return "label" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def uses_labels(network: nn.Module, data: Data, wanted: bool | None = None) -> bool:
    """Whether the network is conditioned on the labels of the data.

    Args:
        network: The network of a flow map.
        data: The data set, with `classes` None if it has no labels.
        wanted: Whether labels are used. None: if the network takes them.

    Returns:
        Whether labels are passed to the network.

    Raises:
        ValueError: Labels are wanted and the data have none.
    """
    if wanted and data.classes is None:
        raise ValueError(f"labels=True needs data with class labels, and {data.name} has none")
    return data.classes is not None and (takes_labels(network) if wanted is None else wanted)


def condition_of(batch: Batch, labels: bool) -> dict[str, Tensor] | None:
    """Collect the conditions of a batch by name.

    Args:
        batch: Rows with their labels and given conditions.
        labels: Whether the class label is one of the conditions.

    Returns:
        The label and the given conditions by name; None if there are none.
    """
    return {**by_name(batch.label if labels else None), **(batch.given or {})} or None
