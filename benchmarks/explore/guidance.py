"""A guidance-conditioned flow map of the ring: one network for three classes and all scales from 1 to 6."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.explore.shared import CLASSES, law, network, snapshots
from flowmaps.data.transforms import GuidanceScales, transformed
from flowmaps.exact.rows import MixtureRows

NULL = {"label": len(CLASSES)}
SCALES = (1.0, 6.0)
STEPS = 4000


class Classes:
    """The exact velocity of each class, and of the whole law, which is the null class."""

    def __init__(self) -> None:
        self.law = law()
        self.weights = torch.stack([self.law.weights] * (len(CLASSES) + 1))
        for label, components in enumerate(CLASSES):
            others = [k for k in range(len(self.law.weights)) if k not in components]
            self.weights[label, others] = 0
        self.weights /= self.weights.sum(1, keepdim=True)

    def given(self, label: Tensor) -> MixtureRows:
        """The law of the class of each row."""
        rows = len(label)
        means, variances = self.law.means, self.law.covariances.diagonal(dim1=1, dim2=2)
        means, variances = (value.expand(rows, *value.shape) for value in (means, variances))
        return MixtureRows(self.weights[label], means, variances, None, path=self.law.path)

    def velocity(self, x: Tensor, t: Any) -> Tensor:
        """The velocity of the whole law."""
        return self.law.velocity(x, t)

    def rows(self, n: int) -> fm.data.Data:
        """n draws of each class, with their labels."""
        label = torch.arange(len(CLASSES)).repeat_interleave(n)
        return fm.data.as_data((self.given(label).sample(1)[0], label))


def part() -> dict[str, Any]:
    """The student, by the Lagrangian rule from the exact guided teacher, which reads the scale of each row."""
    teacher = fm.guidance.classifier_free(Classes(), null=NULL)
    student = fm.students.student(fm.FlowMap(network(48, 3, classes=len(CLASSES))), told=("guidance",), tame=False)
    rows = transformed(Classes().rows(10_000), GuidanceScales(*SCALES))
    (last,) = snapshots(student, fm.methods.lmd(teacher), rows, STEPS, labels=True)
    return {"scales": list(SCALES), **last}
