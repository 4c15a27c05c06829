"""The handwritten digits that ship with scikit-learn: real images, no download."""

from __future__ import annotations

import torch

from .core import Data
from .sources import Finite, TensorRows


def digits() -> Data:
    """1797 handwritten digits (Alpaydin and Kaynak 1998), 8 x 8 with 17 grey levels: (1, 8, 8), x / 8 - 1, ten classes.

    1437 for training and 360 held out, stratified by class with a fixed seed. Raises ImportError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install flowmaps[data]") from error
    raw = load_digits()
    label = torch.as_tensor(raw.target).long()
    x = torch.as_tensor(raw.images).to(torch.get_default_dtype()).unsqueeze(1) / 8 - 1
    train, test = (
        torch.as_tensor(i) for i in train_test_split(range(len(x)), test_size=360, stratify=label, random_state=0)
    )
    source = Finite(TensorRows(x[train], label[train]), TensorRows(x[test], label[test]))
    return Data("digits", (1, 8, 8), source, "images", classes=10, class_names=tuple("0123456789"), levels=17)
