"""A pipeline of diffusers as a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ...path import Path, linear
from ...pretrained import Pretrained, Reading
from .folder import Loaded, Saved, networks, opened
from .schedulers import reading


def teacher(
    folder_or_pipeline: Any,
    *,
    path: Path = linear,
    component: str | None = None,
    dtype: torch.dtype | None = None,
    variant: str | None = None,
) -> Pretrained:
    """Make a teacher of the network of a diffusers pipeline, with the reading of its scheduler.

    The network of the teacher is a `DiffusersNetwork`; `Texts` makes its conditions.

    Args:
        folder_or_pipeline: The folder of a pipeline, a name on the hub, or a loaded pipeline; the network of a loaded
            pipeline is used itself, and frozen.
        path: The path on which the network is read.
        component: Name of the network, for pipelines with two, such as "transformer_2" (Wan 2.2's, for the times near
            the data; the pipeline's boundary_ratio separates the times of the two).
        dtype: Dtype of the weights. None: float32.
        variant: Variant of the weight files, such as "fp16".

    Returns:
        The teacher.

    Raises:
        ValueError: For an unknown component, class or scheduler.
        PermissionError: For a gated repository.
        ConnectionError: If the hub cannot be reached.
        FileNotFoundError: For missing files.
    """
    pipeline = opened(folder_or_pipeline, variant)
    name = _chosen(pipeline, component)
    network = pipeline.network(name, dtype)
    read = reading(pipeline.part("scheduler"), path)
    return Pretrained(network, _of_expert(read, name, pipeline))


def _of_expert(read: Reading, name: str, pipeline: Saved | Loaded) -> Reading:
    """Limit the reading of one of two networks to the times on its side of the boundary."""
    boundary = pipeline.setting("boundary_ratio")
    if boundary is None or not pipeline.has("transformer_2"):
        return read
    return replace(read, known=(0.0, boundary) if name == "transformer_2" else (boundary, 1.0))


def _chosen(pipeline: Saved | Loaded, component: str | None) -> str:
    """Name the chosen network; ValueError if there are several and none is chosen."""
    found = networks(pipeline)
    if component is None and len(found) > 1:
        raise ValueError(f"{pipeline.name} has {len(found)} networks: choose one by component=, of {', '.join(found)}")
    return component or found[0]
