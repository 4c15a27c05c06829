"""Samples of sound: their duration, the recording that they continue, and their .wav files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..arguments import positive
from ..data.wave_files import read_wave, write_wave
from ..flow_map import FlowMap
from ..runs.loading import read_signal
from ..sampling.in_order import PROMPT, makes_sequences
from ..sequences import Signal
from .trained_run import Say

WAVE = ".wav"
"""Suffix of sound."""


@dataclass(frozen=True)
class SoundRequest:
    """Sound to sample.

    Args:
        signal: The signal of the run.
        shape: Shape (T, C) of one sample.
        prompt: The frames (P, C) that samples continue, in the units of the data. None: none.
    """

    signal: Signal
    shape: tuple[int, int]
    prompt: Tensor | None = None

    def condition(self, flow: FlowMap, n: int) -> dict[str, Tensor]:
        """The conditions of n samples, by name."""
        if self.prompt is None:
            return {}
        prompt = self.prompt[None] if flow.units is None else flow.units.standardised(self.prompt[None])
        return {PROMPT: prompt.to(flow.like).expand(n, -1, -1)}


def sound_request(
    run: Path,
    config: Mapping[str, Any],
    flow: FlowMap,
    prompts: Sequence[str],
    seconds: float | None,
    temperature: float,
    say: Say,
) -> SoundRequest | None:
    """Check the options of samples of sound.

    Args:
        run: The run folder, for messages.
        config: The content of its config.json.
        flow: Its flow map.
        prompts: The sound file that samples continue, if any.
        seconds: Duration, after the prompt. None: the one of the rows of the data.
        temperature: Variance of the noise.
        say: Receives a line about a prompt of several channels.

    Returns:
        The request; None for runs on other data.

    Raises:
        ValueError: An option does not fit the run, or the prompt cannot be continued.
        FileNotFoundError: There is no such prompt.
    """
    positive(temperature=temperature)
    signal, ordered = read_signal(config, run / "config.json"), makes_sequences(flow)
    if temperature != 1 and not ordered:
        raise ValueError("`temperature` is for models that make a sequence frame by frame, and this run has another")
    if signal is None:
        if seconds is not None:
            raise ValueError(f"`seconds` is for runs on sound, and the rows of {run} are {config['data']['kind']}")
        return None
    length, bins = config["data"]["shape"]
    if not ordered and (prompts or seconds is not None):
        option = "prompt" if prompts else "seconds"
        raise ValueError(
            f"`{option}` is for models that make sound frame by frame, and the model in {run} makes "
            f"{signal.seconds(length):g} seconds at once"
        )
    if len(prompts) > 1:
        raise ValueError(f"samples of sound continue one `prompt`, a sound file, got {len(prompts)}")
    prompt = _prompt(Path(prompts[0]).expanduser(), signal, say) if prompts else None
    if seconds is not None:
        length = signal.count(seconds)
    return SoundRequest(signal, (length, bins), prompt)


def _prompt(path: Path, signal: Signal, say: Say) -> Tensor:
    """The frames (P, C) of a sound file that are continued."""
    channels, rate = read_wave(path)
    if rate != signal.rate:
        raise ValueError(f"{path} has a sample rate of {rate} Hz, and this run {signal.rate} Hz: resample the file")
    if len(channels) > 1:
        say(f"the {len(channels)} channels of {path} are mixed to one")
    return signal.opening(channels.mean(0))


def wave_files(out: Path, n: int) -> list[Path]:
    """The files of n samples: `out`, or numbered files beside it."""
    if n == 1:
        return [out]
    return [out.with_name(f"{out.stem}-{at:0{len(str(n))}}{out.suffix}") for at in range(1, n + 1)]


def write_sound(out: Path, x: Tensor, request: SoundRequest, counts: Tensor | None = None) -> None:
    """Write samples of sound, each after its prompt.

    Args:
        out: The file; several samples are numbered.
        x: Frames (B, T, C), in the units of the data.
        request: Signal and prompt.
        counts: Number of frames of each sample, (B,). None: T.
    """
    counts = torch.full((len(x),), x.shape[1]) if counts is None else counts
    before = x.new_zeros(0, x.shape[2]) if request.prompt is None else request.prompt.to(x)
    for file, frames, count in zip(wave_files(out, len(x)), x, counts.tolist(), strict=True):
        frames = torch.cat((before, frames[: max(count, 2)]))  # a wave lies between two frames
        write_wave(file, request.signal.wave(frames.float()), request.signal.rate)


def tempered(noise: Tensor, temperature: float) -> Tensor:
    """Noise of variance `temperature`."""
    return noise if temperature == 1 else noise * math.sqrt(temperature)
