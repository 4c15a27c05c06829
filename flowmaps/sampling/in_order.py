"""One step of a sampler, and sequences that are made frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..arguments import refuse_written, shown, version
from ..flow_map import FlowMap
from ..networks.with_backbone import has_backbone
from ..steps import Step, ancestral

PROMPT, VALID = "prompt", "valid"
"""Conditions of sequences: frames (B, P, C) that are continued; a mask (B, T) that training reads and samplers do not.
"""


def stepped(step: Step, flow: Any, x: Tensor, s: float, t: float) -> Tensor:
    """The state after a step, which must be a new tensor of the same shape."""
    before = version(x)
    trained = getattr(flow, "trained", None)
    if trained is not None and step is not ancestral and (reason := trained.warning_of_ode) is not None:
        flow.warn_once(reason, stacklevel=4)
    after = step(flow, x, s, t)
    refuse_written("the flow or its step", x, before)
    if getattr(after, "shape", None) != x.shape:
        got = tuple(after.shape) if isinstance(after, Tensor) else type(after).__name__
        raise ValueError(f"a step must return a tensor of the shape of x, {tuple(x.shape)}, got {got}")
    return after


def makes_sequences(flow: Any) -> bool:
    """Whether a flow map is a head on a backbone without a context, so that noise (B, T, C) becomes a sequence."""
    return has_backbone(getattr(flow, "network", None)) and "context" not in flow.condition


def frames(flow: FlowMap, noise: Tensor, times: Sequence[float], step: Step) -> Iterator[tuple[FlowMap, list[Tensor]]]:
    """Make sequences frame by frame: each frame is sampled, or inverted, given the ones before it at t = 0.

    Args:
        flow: A flow map of frames whose network has `begin(rows, **condition)` and `next(state, frame)`; its conditions
            are bound, among them perhaps `prompt`, standardised frames (B, P, C) that the sequences continue.
        noise: States at the first time, (B, T, C).
        times: Times of the states.
        step: Step from `flowmaps.steps`.

    Yields:
        For each frame the flow map with its context, and the states (B, C) at all times.

    Raises:
        TypeError: This is a velocity around such a flow map, such as a guided one.
        ValueError: The noise or the prompt are no sequences, or they do not fit together; or neither the first nor the
            last time is 0, so that there are no frames of data to go on from.
    """
    if not isinstance(flow, FlowMap):
        raise TypeError(
            f"sequences are made by a flow map on a backbone, and this is a {type(flow).__name__} around one: to guide "
            "contexts take fm.Autoregressive.of(flow).generate(guidance=..., null=...)"
        )
    data = _at_data(times)
    condition = dict(flow.condition)
    prompt = condition.pop(PROMPT, None)
    condition.pop(VALID, None)
    _check_sequences(noise, prompt)
    if flow.trained is not None and (said := flow.trained.warning_of_conditions(condition)) is not None:
        flow.warn_once(said, stacklevel=4)
    network: Any = flow.network
    state, frame = network.begin(len(noise), **condition), None
    for given in () if prompt is None else prompt.to(noise).unbind(1):
        _, state = network.next(state, frame)
        frame = given
    for k in range(noise.shape[1]):
        told, state = network.next(state, frame)
        one = flow.around(network)
        one.condition = told
        if one.trained is not None:
            one.trained = replace(one.trained, conditions=tuple(told), dropped=())
        states = [noise[:, k]]
        for s, t in pairwise(times):
            states.append(stepped(step, one, states[-1], s, t))
        yield one, states
        frame = states[data]


def sequences(flow: FlowMap, noise: Tensor, times: Sequence[float], step: Step) -> list[Tensor]:
    """States (B, T, C) of sequences at all times, made frame by frame; arguments as for `frames`.

    If the network predicts ends, samples of frames after the end are 0, as padding is in data.
    """
    network: Any = flow.network
    ends = getattr(network, "ends", False) and _at_data(times) == -1
    made, ended = [], torch.zeros(len(noise), 1, dtype=torch.bool, device=noise.device)
    for one, states in frames(flow, noise, times, step):
        made.append([*states[:-1], states[-1].masked_fill(ended, 0.0)])
        if ends:
            ended = ended | (network.ending(one.condition["context"]) > 0)[:, None]
    return [torch.stack(states, 1) for states in zip(*made, strict=True)]


def _at_data(times: Sequence[float]) -> int:
    """Index of the state at t = 0: the last one of a sampler, the first one of an inversion."""
    if times[-1] == 0:
        return -1
    if times[0] == 0:
        return 0
    raise ValueError(
        f"a head on a backbone reads the frames before each at t = 0, and these times lead from {times[0]:g} to "
        f"{times[-1]:g}: end at 0"
    )


def _check_sequences(noise: Tensor, prompt: Any) -> None:
    """Refuse noise and prompts that are no sequences of the same frames."""
    if noise.ndim != 3 or 0 in noise.shape[1:]:
        raise ValueError(
            f"a head on a backbone makes sequences from noise (B, T, C), with T frames of C numbers, got "
            f"{tuple(noise.shape)}"
        )
    rows, _, channels = noise.shape
    if prompt is None:
        return
    if not isinstance(prompt, Tensor) or prompt.ndim != 3 or (len(prompt), prompt.shape[2]) != (rows, channels):
        got = tuple(prompt.shape) if isinstance(prompt, Tensor) else shown(prompt)
        raise ValueError(f"the prompt of {rows} sequences has frames ({rows}, P, {channels}), got {got}")
