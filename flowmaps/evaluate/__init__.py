"""Evaluation of flow maps: distances to held-out data with their floors, errors, consistency over (s, t), and cost."""

from importlib import import_module
from typing import Any

from .by_kind import to_levels
from .class_measures import accuracy, diversity, recognition
from .clip_measures import MotionRow, compare_motion, motion, motion_of_clips, motion_ratio, paired_motion_ratio
from .cost import counting
from .distances import (
    Estimate,
    energy_distance,
    frechet_distance,
    histogram_kl,
    kernel_distance,
    nearest,
    sliced_energy_distance,
)
from .features import Classifier, Features, classifier_features, inception, train_classifier
from .guided import Guided, GuidedSampler, by_scale
from .manifold_measures import (
    biased_geodesic_mmd,
    coverage,
    gaussian_kernel,
    geodesic_mmd,
    geodesic_nearest,
    laplace_kernel,
)
from .rewards import RewardBound, reward_bound
from .run import evaluate
from .token_measures import ngram_tv, table_tv, table_tv_floor, token_entropy, valid_share
from .truth import consistency_residuals, map_error
from .without_labels import random_features, random_patches

__all__ = [
    "Classifier",
    "Estimate",
    "Features",
    "Guided",
    "GuidedSampler",
    "MotionRow",
    "RewardBound",
    "accuracy",
    "biased_geodesic_mmd",
    "by_scale",
    "classifier_features",
    "compare_motion",
    "consistency_residuals",
    "counting",
    "coverage",
    "diversity",
    "energy_distance",
    "evaluate",
    "evaluate_run",
    "frechet_distance",
    "gaussian_kernel",
    "geodesic_mmd",
    "geodesic_nearest",
    "histogram_kl",
    "inception",
    "kernel_distance",
    "laplace_kernel",
    "map_error",
    "motion",
    "motion_of_clips",
    "motion_ratio",
    "nearest",
    "ngram_tv",
    "paired_motion_ratio",
    "random_features",
    "random_patches",
    "read_evaluation",
    "recognition",
    "reward_bound",
    "sliced_energy_distance",
    "table_tv",
    "table_tv_floor",
    "to_levels",
    "token_entropy",
    "train_classifier",
    "valid_share",
]


# Functions that read run folders live above this package: name -> module, name there.
_ABOVE = {
    "evaluate_run": ("experiments.evaluation", "evaluate"),
    "read_evaluation": ("runs.records", "read_evaluation"),
}


def __getattr__(name: str) -> Any:
    """Import the functions that read run folders on first use."""
    if name not in _ABOVE:
        raise AttributeError(f"module 'flowmaps.evaluate' has no attribute {name!r}")
    module, attribute = _ABOVE[name]
    return getattr(import_module(f"flowmaps.{module}"), attribute)
