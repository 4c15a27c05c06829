"""Labels that training would use in a wrong way, or not at all."""

from __future__ import annotations

import inspect
import warnings

from torch import nn

from ..data import Data
from ..data.transforms import LabelDropout, transforms_of
from ..networks.embeddings import LabelEmbedding

OTHER_NAMES = ("class_label", "class_labels", "classes", "labels", "y")
"""Usual names of an argument for class labels, which are passed as `label`."""


def warn_of_labels(network: nn.Module, data: Data, labels: bool | None, used: bool) -> None:
    """Warn of labels that are not used because of their name, and of a class that is also the null class.

    Args:
        network: The network of a flow map.
        data: The data set.
        labels: The setting; False silences the first warning.
        used: Whether labels are passed to the network.

    Raises:
        ValueError: The network has fewer classes than the data.
    """
    if data.classes is None:
        return
    if not used:
        names = inspect.signature(network.forward).parameters
        if labels is None and (name := next((one for one in OTHER_NAMES if one in names), None)):
            warnings.warn(
                f"{data.name} has labels, and they are not used: they are passed by the name `label`, and the network "
                f"{type(network).__name__} takes `{name}`. Call this argument `label`, or pass labels=False",
                stacklevel=3,
            )
        return
    known = [part.classes for part in network.modules() if isinstance(part, LabelEmbedding)]
    if known and min(known) + 1 < data.classes:
        raise ValueError(
            f"{data.name} has {data.classes} classes, and the network was built for {min(known)}: build it with "
            f"classes={data.classes}"
        )
    nulls = [min(known)] if known and min(known) < data.classes else []
    nulls += [one.null for one in transforms_of(data) if isinstance(one, LabelDropout) and one.null < data.classes]
    if nulls:
        warnings.warn(
            f"class {nulls[0]} of {data.name} is also the null class, so the network cannot tell them apart: "
            f"{data.classes} classes are numbered from 0, and the null class is {data.classes}. Build the network with "
            f"classes={data.classes}, and leave labels out by LabelDropout(share, null={data.classes})",
            stacklevel=3,
        )
