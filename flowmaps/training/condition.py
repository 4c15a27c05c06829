"""What a network is told beside x, s and t: the class label, where the data has one and the network takes it, and all
that the batch gives by name.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..data import Batch, Data
from ..data.labels import takes_labels


def uses_labels(network: nn.Module, data: Data, wanted: bool | None = None) -> bool:
    """Whether training hands labels to the network; None: if it takes them. Raises ValueError for labels that are
    wanted and not there.
    """
    if wanted and data.classes is None:
        raise ValueError(f"labels=True needs data with class labels, and {data.name} has none")
    return data.classes is not None and (takes_labels(network) if wanted is None else wanted)


def condition_of(batch: Batch, labels: bool) -> dict[str, Tensor] | None:
    """{"label": (B,), and what is given by name}, or None where there is neither."""
    label = {"label": batch.label} if labels and batch.label is not None else {}
    return {**label, **(batch.given or {})} or None
