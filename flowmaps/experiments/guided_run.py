"""The guided samplers of a run folder, which depend on the guidance in its training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.transforms import LabelDropout
from ..evaluate.guided import SCALES, GuidedSampler
from ..flow_map import FlowMap
from ..guidance import classifier_free
from ..guidance.conditions import FROM, SCALE, TO
from ..runs.folder import read_config
from ..runs.loading import load
from ..serialise import public_name
from ..steps import euler, jump

TimeInterval = tuple[float, float]
EVERYWHERE: TimeInterval = (0.0, 1.0)
MANY = 100


def guided_samplers(
    run: Path,
    flow: FlowMap,
    data: Data,
    *,
    scales: Sequence[float] | None = None,
    interval: TimeInterval = EVERYWHERE,
    steps: int = MANY,
    reference: Path | None = None,
) -> list[GuidedSampler]:
    """Make the samplers of a run at each scale: one jump and many Euler steps.

    - guidance-conditioned run: both, at the scales inside the range of its training
    - run with a baked-in scale: both, at this scale
    - run that knows the null class: Euler steps of `guidance.classifier_free`

    Args:
        run: The run folder.
        flow: Its flow map.
        data: Its data.
        scales: The scales. None: `known_scales`.
        interval: The times between which guidance acts, if it is not baked in.
        steps: The number of Euler steps.
        reference: Another run that gives the Euler steps to compare with. None: the run itself.

    Returns:
        The samplers; none for a run without guidance, or on data that are not images with classes.
    """
    if data.kind != "images" or not data.classes:
        return []
    own = list(_samplers(flow, read_config(run), scales, interval, steps))
    beside: list[GuidedSampler] = []
    if reference is not None and own:
        other = load(reference).to(flow.like.device)
        found = _samplers(other, read_config(reference), scales, interval, steps)
        beside = [replace(one, run=reference.name, reference=True) for one in found if one.step is euler]
    return own + beside if beside else [replace(one, reference=one.step is euler) for one in own]


def _samplers(
    flow: FlowMap, config: Mapping[str, Any], scales: Sequence[float] | None, interval: TimeInterval, steps: int
) -> Iterator[GuidedSampler]:
    """The samplers of one run."""
    ways = [("euler", steps, euler)] * (not flow.is_partial)
    if jumps_are_guided(flow):
        ways = [("jump", 1, jump), *ways]
    for name, count, step in ways:
        for scale in known_scales(flow, config, scales):
            guided, condition = at_scale(flow, config, scale, interval)
            yield GuidedSampler(name, count, step, scale, guided, flow, condition)


def known_scales(flow: FlowMap, config: Mapping[str, Any], wanted: Sequence[float] | None) -> list[float]:
    """The scales at which a run can be sampled.

    Args:
        flow: The flow map of the run.
        config: The content of its config.json.
        wanted: The scales to choose from. None: `SCALES`, restricted to the range of training if there is one.

    Returns:
        The scales; none for a run without guidance.
    """
    if not config["training"]["labels"]:
        return []
    baked = baked_scale(flow)
    if baked is not None:
        return [baked]
    if is_conditioned(flow.network):
        low, high = trained_scales(flow)
        return [scale for scale in SCALES if low <= scale <= high] if wanted is None else list(wanted)
    return list(SCALES if wanted is None else wanted) if knows_null(config) else []


def jumps_are_guided(flow: FlowMap) -> bool:
    """Whether the map itself has learned the guidance, so that its jumps are guided too."""
    return is_conditioned(flow.network) or baked_scale(flow) is not None


def teacher_of(run: Path) -> Path | None:
    """The run that a distilled run learned from; None if its notes name no existing run."""
    name = read_config(run)["notes"].get("teacher")
    return Path(name) if name and (Path(name) / "config.json").is_file() else None


def baked_scale(flow: FlowMap) -> float | None:
    """The fixed scale that a map has learned; None for any other map."""
    scale = None if flow.guidance is None else flow.guidance.scale
    return float(scale) if isinstance(scale, int | float) else None


def trained_scales(flow: FlowMap) -> tuple[float, float]:
    """The lowest and the highest scale that a map has learned; 0 and infinity if it has no guidance."""
    return (0.0, math.inf) if flow.guidance is None else flow.guidance.range


def null_class(config: Mapping[str, Any]) -> int | None:
    """The label of the null class; None if no labels were dropped in training, so that the network does not know it."""
    found = (one for one in transforms_of_run(config, LabelDropout) if one["share"] > 0)
    return next((one.get("null", config["data"]["classes"]) for one in found), None)


def knows_null(config: Mapping[str, Any]) -> bool:
    """Whether labels were dropped in training, so that the network knows the null class."""
    return null_class(config) is not None


def transforms_of_run(config: Mapping[str, Any], kind: type) -> Iterator[dict[str, Any]]:
    """The arguments of the transforms of a class in the data of a run."""
    known = config["data"].get("changes") or ()
    objects = (one for one in known if isinstance(one, dict))
    return (one["arguments"] for one in objects if one.get("type") == public_name(kind))


def is_conditioned(network: nn.Module) -> bool:
    """Whether a network is conditioned on the guidance scale."""
    return SCALE in condition_names(network)


def condition_names(network: nn.Module) -> set[str]:
    """The conditions that the parts of a network take beside the label."""
    names = ("told", "takes")
    return {name for part in network.modules() for attribute in names for name in getattr(part, attribute, ())}


def at_scale(
    flow: FlowMap, config: Mapping[str, Any], scale: float, interval: TimeInterval = EVERYWHERE
) -> tuple[Any, dict[str, torch.Tensor]]:
    """Guide a run at a scale.

    Args:
        flow: The flow map.
        config: The content of config.json.
        scale: The guidance scale.
        interval: The times between which guidance acts.

    Returns:
        The object to sample and its conditions beside the label: the flow map itself if it is guidance-conditioned or
        has the scale baked in, its guided velocity if it knows the null class.

    Raises:
        ValueError: The run has no guidance, or only another scale or interval.
    """
    if is_conditioned(flow.network):
        return flow, guidance_condition(flow.network, scale, interval)
    baked = baked_scale(flow)
    if baked is not None:
        if baked != scale:
            raise ValueError(
                f"guidance of scale {baked:g} is baked into this run, so {scale:g} is not available: leave it out"
            )
        return flow, {}
    if not config["training"]["labels"]:
        raise ValueError("guidance is towards a class, and this run was trained without class labels")
    null = null_class(config)
    if null is None:
        raise ValueError(
            "this run was trained without guidance, and with all labels, so it does not know the null class: train it "
            "with `guidance`, or with `label_dropout` to have its velocity guided"
        )
    return classifier_free(flow, scale, null={"label": null}, interval=interval), {}


def guidance_condition(network: nn.Module, scale: float, interval: TimeInterval) -> dict[str, torch.Tensor]:
    """The guidance conditions of a guidance-conditioned network, for one row.

    Args:
        network: The network.
        scale: The guidance scale.
        interval: The times between which guidance acts.

    Returns:
        The conditions (1,) by name.

    Raises:
        ValueError: An interval is given and the network takes none.
    """
    names = condition_names(network)
    if interval != EVERYWHERE and not {FROM, TO} <= names:
        raise ValueError("this run was trained with guidance at all times, so it takes no interval")
    values = {SCALE: scale, FROM: interval[0], TO: interval[1]}
    return {name: torch.tensor([value]) for name, value in values.items() if name in names}
