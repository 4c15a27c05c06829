"""The laws with closed forms: six Gaussians on a ring, and two on a line."""

from __future__ import annotations

from typing import Any

import flowmaps as fm
from benchmarks.explore.shared import CLASSES, law


def described(mixture: fm.exact.GaussianMixture) -> dict[str, Any]:
    """Weights, means and standard deviations."""
    assert mixture.stds is not None
    return {
        "weights": mixture.weights.double().tolist(),
        "means": mixture.means.double().tolist(),
        "stds": mixture.stds.double().tolist(),
    }


def part() -> dict[str, Any]:
    """The laws, and the components of each class of the first."""
    line = fm.exact.GaussianMixture([0.35, 0.65], [-1.4, 1.0], [0.25, 0.4])
    return {"ring": described(law()), "line": described(line), "classes": [list(each) for each in CLASSES]}
