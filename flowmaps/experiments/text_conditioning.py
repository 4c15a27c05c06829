"""The pipeline behind a distilled run, which encodes prompts and decodes latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..flow_map import FlowMap
from .guided_run import condition_names


def text_conditions(flow: FlowMap, config: Mapping[str, Any], prompts: Sequence[str]) -> dict[str, Tensor]:
    """Encode prompts by the pipeline of a distilled run.

    Args:
        flow: The flow map of the run.
        config: The content of its config.json.
        prompts: Prompts.

    Returns:
        The conditions by name, (number of prompts, ...); none for a network without text conditioning.

    Raises:
        ValueError: The network has text conditioning and no prompt is given, or the other way round.
    """
    if "text" not in condition_names(flow.network):
        if prompts:
            raise ValueError("the network of this run has no text conditioning, so `prompt` cannot be given")
        return {}
    if not prompts:
        raise ValueError("the network of this run needs a text: `prompt=TEXT`")
    from ..integrations.diffusers import Texts
    from ..integrations.diffusers.autoencoders import autoencoder
    from ..integrations.diffusers.latents import factors

    pipeline = pipeline_of(config)
    vae = autoencoder(pipeline)
    factor = (1, 1) if vae is None else factors(pipeline.config(vae))[-2:]
    size = tuple(side * f for side, f in zip(config["data"]["shape"][-2:], factor, strict=True))
    encoded = Texts(pipeline, size).to(flow.like.device).encode(list(prompts))
    like = flow.like
    return {name: value.to(like) if value.is_floating_point() else value for name, value in encoded.items()}


def in_turn(texts: Mapping[str, Tensor], rows: Sequence[int]) -> dict[str, Tensor]:
    """The conditions of some rows, over which the encoded prompts take turns."""
    return {name: value[[row % len(value) for row in rows]] for name, value in texts.items()}


def decoded(config: Mapping[str, Any], x: Tensor) -> Tensor:
    """Decode latents by the VAE of the pipeline of a run.

    Args:
        config: The content of its config.json.
        x: Latents (B, C, H, W).

    Returns:
        Images (B, channels, height, width) in [-1, 1].
    """
    from ..integrations.diffusers import Latents

    latents = Latents(pipeline_of(config))
    return torch.cat([latents.decode(row).detach() for row in x.float().split(1)])


def has_pipeline(config: Mapping[str, Any]) -> bool:
    """Whether a run was distilled from a pipeline."""
    return bool(config["notes"].get("folder"))


def has_latents(config: Mapping[str, Any]) -> bool:
    """Whether samples of a run are latents, which the pipeline behind it decodes."""
    return config["data"]["kind"] == "vectors" and has_pipeline(config)


def pipeline_of(config: Mapping[str, Any]) -> Any:
    """Open the pipeline that a run was distilled from, without the network: a person did not name it here.

    Raises:
        ValueError: If the notes of the run name none.
        ConnectionError: If it is a name on the hub that is not in the local cache.
    """
    if not has_pipeline(config):
        raise ValueError("this run needs the encoders of its pipeline, and its notes do not name the pipeline")
    from ..integrations.diffusers.folder import opened

    return opened(config["notes"]["folder"], online=False)
