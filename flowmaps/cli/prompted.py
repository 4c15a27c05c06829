"""Samples of a run that was made of a pipeline: prompts on the way in, the VAE on the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..flow_map import FlowMap


def text_conditions(flow: FlowMap, config: Mapping[str, Any], prompts: Sequence[str], n: int) -> dict[str, Tensor]:
    """What the pipeline of a run makes of prompts, which take turns over n rows. Raises ValueError for a network that
    is told a text and gets none, and the other way round.
    """
    takes = {name for part in flow.modules() for name in getattr(part, "takes", ())}
    if "text" not in takes:
        if prompts:
            raise ValueError("the network of this run is not told a text, so --prompt cannot be given")
        return {}
    if not prompts:
        raise ValueError("the network of this run is told a text: --prompt TEXT")
    from ..integrations.diffusers import Texts
    from ..integrations.diffusers.folder import opened
    from ..integrations.diffusers.latents import factors

    pipeline = opened(folder_of(config))
    factor = factors(pipeline.config("vae"))[-2:] if pipeline.has("vae") else (1, 1)
    size = tuple(side * f for side, f in zip(config["data"]["shape"][-2:], factor, strict=True))
    encoded = Texts(pipeline, size).to(flow.like.device).encode(list(prompts))
    like = flow.like
    rows = [i % len(prompts) for i in range(n)]
    return {name: value[rows].to(like) if value.is_floating_point() else value[rows] for name, value in encoded.items()}


def decoded(config: Mapping[str, Any], x: Tensor) -> Tensor:
    """Latents as images, by the VAE of the run's pipeline."""
    from ..integrations.diffusers import Latents

    return Latents(folder_of(config)).decode(x.float()).detach()


def has_pipeline(config: Mapping[str, Any]) -> bool:
    return bool(config["notes"].get("folder"))


def folder_of(config: Mapping[str, Any]) -> str:
    """The pipeline that a run was made of. Raises ValueError where its notes name none."""
    if not has_pipeline(config):
        raise ValueError("this run does not say which pipeline it was made of, whose encoders it needs")
    return config["notes"]["folder"]
