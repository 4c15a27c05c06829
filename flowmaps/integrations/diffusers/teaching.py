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
    """The network of a diffusers pipeline as a teacher on `path`, read as its scheduler says.

    folder_or_pipeline: the folder of a pipeline, a name on the hub, or a loaded pipeline, whose own network is used and
    frozen. component: which network, for pipelines of two, such as "transformer_2" (Wan 2.2's, for the times near the
    data; each knows its own part of the times, as the pipeline's boundary_ratio says). dtype: of the weights, float32
    by default; variant: of the files, such as "fp16".

    The network of the teacher is a `DiffusersNetwork`: its conditions are those that `Texts` makes.
    Raises ValueError for a component, a class or a scheduler that is not known; PermissionError for a gated repository,
    ConnectionError without the hub, FileNotFoundError for what is missing.
    """
    pipeline = opened(folder_or_pipeline, variant)
    name = _chosen(pipeline, component)
    network = pipeline.network(name, dtype)
    read = reading(pipeline.part("scheduler"), path)
    return Pretrained(network, _of_expert(read, name, pipeline))


def _of_expert(read: Reading, name: str, pipeline: Saved | Loaded) -> Reading:
    """Of two networks each knows the times on its side of the boundary."""
    boundary = pipeline.setting("boundary_ratio")
    if boundary is None or not pipeline.has("transformer_2"):
        return read
    return replace(read, known=(0.0, boundary) if name == "transformer_2" else (boundary, 1.0))


def _chosen(pipeline: Saved | Loaded, component: str | None) -> str:
    """The network that is meant. Raises ValueError where there are several and none is chosen."""
    found = networks(pipeline)
    if component is None and len(found) > 1:
        raise ValueError(f"{pipeline.name} has {len(found)} networks: choose one by component=, of {', '.join(found)}")
    return component or found[0]
