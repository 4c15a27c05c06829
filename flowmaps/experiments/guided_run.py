"""The guided samplers of a run folder: which there are depends on what the run was trained with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import Data
from ..data.changes import WithGuidance, WithoutLabel
from ..evaluate.guided import SCALES, Guided
from ..evaluate.truth import is_partial
from ..flow_map import FlowMap
from ..guidance import classifier_free
from ..guidance.conditions import FROM, SCALE, TO
from ..runs.folder import read_config
from ..runs.loading import load
from ..serialise import public_name
from ..steps import euler, jump

Interval = tuple[float, float]
EVERYWHERE: Interval = (0.0, 1.0)
MANY = 100


def guided_samplers(
    run: Path,
    flow: FlowMap,
    data: Data,
    *,
    scales: Sequence[float] | None = None,
    interval: Interval = EVERYWHERE,
    steps: int = MANY,
    reference: Path | None = None,
) -> list[Guided]:
    """One jump and `steps` Euler steps of a run at each scale, as far as it has them; the Euler steps of the reference
    run, or else its own, are what the others are compared with. Empty for a run that knows nothing of guidance, or
    whose data are not images with classes.

    - told the scale: both, at the scales inside the range that it was trained on
    - of a scale that is baked in: both, at this one
    - of a velocity that knows the null class: Euler steps of `guidance.classifier_free`

    interval: the times at which guidance acts, where it is not baked in.
    """
    if data.kind != "images" or not data.classes:
        return []
    own = list(_samplers(flow, read_config(run), scales, interval, steps))
    beside: list[Guided] = []
    if reference is not None and own:
        other = load(reference).to(flow.like.device)
        found = _samplers(other, read_config(reference), scales, interval, steps)
        beside = [replace(one, run=reference.name, reference=True) for one in found if one.step is euler]
    return own + beside if beside else [replace(one, reference=one.step is euler) for one in own]


def _samplers(
    flow: FlowMap, config: Mapping[str, Any], scales: Sequence[float] | None, interval: Interval, steps: int
) -> Iterator[Guided]:
    ways = [("euler", steps, euler)] * (not is_partial(flow))
    if jumps_are_guided(flow.network, config):
        ways = [("jump", 1, jump), *ways]
    for name, count, step in ways:
        for scale in known_scales(flow.network, config, scales):
            guided, condition = at_scale(flow, config, scale, interval)
            yield Guided(name, count, step, scale, guided, flow, condition)


def known_scales(network: nn.Module, config: Mapping[str, Any], asked: Sequence[float] | None) -> list[float]:
    """Of the scales that are asked for, by default `SCALES`, those that a run has. Of a range that was trained, only
    those inside it where none are asked for.
    """
    if not config["training"]["labels"]:
        return []
    baked = baked_scale(config)
    if baked is not None:
        return [baked]
    if is_told(network):
        low, high = trained_scales(config)
        return [scale for scale in SCALES if low <= scale <= high] if asked is None else list(asked)
    return list(SCALES if asked is None else asked) if knows_null(config) else []


def jumps_are_guided(network: nn.Module, config: Mapping[str, Any]) -> bool:
    """Whether the guidance is in the map, not only in a velocity that is made of two."""
    return is_told(network) or baked_scale(config) is not None


def teacher_of(run: Path) -> Path | None:
    """The run that a distilled one learned from, where its notes name one that is still there."""
    name = read_config(run)["notes"].get("teacher")
    return Path(name) if name and (Path(name) / "config.json").is_file() else None


def baked_scale(config: Mapping[str, Any]) -> float | None:
    """The fixed scale that a run was trained with, as its notes have it."""
    text = config["notes"].get("guidance")
    return float(text) if text and ":" not in text else None


def trained_scales(config: Mapping[str, Any]) -> tuple[float, float]:
    """The smallest and the largest scale that a run was told in training; any where its data do not say."""
    found = next(_changes(config, WithGuidance), {"low": 0.0, "high": math.inf})
    return found["low"], found["high"]


def knows_null(config: Mapping[str, Any]) -> bool:
    """Whether labels were left out in training, so that the network knows the null class."""
    return any(found["share"] > 0 for found in _changes(config, WithoutLabel))


def _changes(config: Mapping[str, Any], kind: type) -> Iterator[dict[str, Any]]:
    """The arguments of the changes of a kind that a run made of its data."""
    known = config["data"].get("changes") or ()
    return (one["arguments"] for one in known if one["type"] == public_name(kind))


def is_told(network: nn.Module) -> bool:
    """Whether a network is told the scale of guidance."""
    return SCALE in asked_for(network)


def asked_for(network: nn.Module) -> set[str]:
    """The conditions that a student is told, and those that a network around one of diffusers takes."""
    names = ("told", "takes")
    return {name for part in network.modules() for attribute in names for name in getattr(part, attribute, ())}


def at_scale(
    flow: FlowMap, config: Mapping[str, Any], scale: float, interval: Interval = EVERYWHERE
) -> tuple[Any, dict[str, torch.Tensor]]:
    """What to follow for samples of a run at a scale, and what it is told beside the label: the flow map itself where
    it is told the scale or has it baked in, its guided velocity where it knows the null class.

    Raises ValueError for a run that knows nothing of guidance, or another scale or interval only.
    """
    if is_told(flow.network):
        return flow, told(flow.network, scale, interval)
    baked = baked_scale(config)
    if baked is not None:
        if baked != scale:
            raise ValueError(
                f"guidance of scale {baked:g} is baked into this run, and {scale:g} cannot be asked for: leave it out"
            )
        return flow, {}
    if not config["training"]["labels"]:
        raise ValueError("guidance is towards a class, and this run was trained without class labels")
    if not knows_null(config):
        raise ValueError(
            "this run was trained without guidance, and with all labels, so it does not know the null class: train it "
            "with --guidance, or with --label-dropout to have its velocity guided"
        )
    return classifier_free(flow, scale, null={"label": config["data"]["classes"]}, interval=interval), {}


def told(network: nn.Module, scale: float, interval: Interval) -> dict[str, torch.Tensor]:
    """The conditions of a network that is told the scale, of one row each. Raises ValueError for an interval where it
    is told none.
    """
    names = asked_for(network)
    if interval != EVERYWHERE and not {FROM, TO} <= names:
        raise ValueError("this run was trained with guidance at all times, so it cannot be told an interval")
    values = {SCALE: scale, FROM: interval[0], TO: interval[1]}
    return {name: torch.tensor([value]) for name, value in values.items() if name in names}
