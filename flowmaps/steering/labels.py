"""The reward of a class, by a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..arguments import brief_repr, shown
from .reward import Reward


@dataclass(frozen=True, repr=False)
class Label(Reward):
    """Log-probability of a class, log p(y | x0); made by `label`."""

    classifier: Callable[[Tensor], Tensor]
    y: int | Tensor

    def __call__(self, x0: Tensor) -> Tensor:
        """The log-probability of the class for data, (B,)."""
        logits = self._logits(x0)
        y = torch.as_tensor(self.y, device=logits.device)
        if y.ndim and len(y) not in (1, len(x0)):
            raise ValueError(f"labels need one class, or one for each of {len(x0)} rows, got {tuple(y.shape)}")
        if bool(((y < 0) | (y >= logits.shape[1])).any()):
            raise ValueError(f"the classifier knows the classes 0 to {logits.shape[1] - 1}, and the label is {self.y}")
        return logits.log_softmax(1).gather(1, y.long().reshape(-1, 1).expand(len(x0), 1))[:, 0]

    def _logits(self, x0: Tensor) -> Tensor:
        """The logits of the classifier, (B, K)."""
        shape = getattr(self.classifier, "shape", None)
        if isinstance(shape, tuple) and tuple(x0.shape[1:]) != shape:
            raise ValueError(f"the classifier takes rows of shape {shape}, and the data have {tuple(x0.shape[1:])}")
        try:
            logits = self.classifier(x0)
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"the classifier refuses data of shape {tuple(x0.shape)}: {error}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x0):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(f"a classifier returns logits ({len(x0)}, classes), got {got}")
        return logits

    __repr__ = brief_repr


def label(classifier: Callable[[Tensor], Tensor], y: int | Tensor) -> Label:
    """Log-probability of a class as a reward.

    Args:
        classifier: Function from data (B, ...) to logits (B, classes), such as `fm.evaluate.train_classifier(data)`.
            Its weights get no gradient.
        y: The class, a number; or one for each row, (B,).

    Returns:
        The reward log softmax(classifier(x0))[y].

    Raises:
        TypeError: The classifier is no function, or y no class.
        ValueError: The classifier is in training mode, in which batch norm would couple rows. In calls: it expects
            other sizes, or does not know the class.
    """
    if not callable(classifier) or isinstance(classifier, type):
        raise TypeError(f"a classifier is a function from data to logits, got {shown(classifier)}")
    whole = isinstance(y, Tensor) and not (y.is_floating_point() or y.is_complex()) and y.ndim <= 1
    if isinstance(y, bool) or not (isinstance(y, int) or whole):
        raise TypeError(f"a label is a class, or a tensor of whole numbers with one for each row, got {shown(y)}")
    if isinstance(classifier, nn.Module):
        kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        if any(isinstance(part, kinds) and part.training for part in classifier.modules()):
            raise ValueError("the classifier is in training mode, in which dropout and batch norm act: call .eval()")
    return Label(classifier, y)
