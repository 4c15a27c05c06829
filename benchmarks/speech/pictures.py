"""The picture of `benchmarks.speech`: spectrograms of recordings and of generated digits; and their sound."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.speech.heads import HEADS, flow_of
from benchmarks.speech.sets import RATE, data_of
from flowmaps.data.wave_files import write_wave
from flowmaps.figures.sound import RANGE, levels
from flowmaps.figures.style import SHADES, figure, light

SHOWN, LENGTH = ("one", "three", "seven"), 0.8
"""Digits in the picture, and duration of each spectrogram in seconds."""
ROWS = {"flow map, 1 jump": ("flow_map_imf", "1 jump"), "flow map, 16 Euler steps": ("flow_map_imf", "16 Euler steps")}
ROWS |= {"mean": ("mean", "1 jump"), "mixture of Gaussians": ("mixture", "1 jump")}


def picture(out: Path, runs: Path, seconds: float) -> None:
    """Draw digits.png from the weights of the first seed, and write every generated digit as a .wav file into `runs`.

    Args:
        out: Folder of the results.
        runs: Folder of recordings and weights.
        seconds: Processor time of the trainings.
    """
    data = data_of("digits", runs)
    waves = {"a recording": recordings(data)}
    for title, (head, sampler) in ROWS.items():
        run = runs / f"digits-{head}-0-{seconds:g}s"
        if run.exists():
            waves[title] = generated(fm.load(run, flow_of(head, data).network), data, head, sampler)
            for word, wave in waves[title].items():
                write_wave(runs / f"{head}, {sampler}, {word}.wav", wave, RATE)
    with figure(
        light, 9.5, 1.9 * len(waves), out / "digits.png", nrows=len(waves), ncols=len(SHOWN), squeeze=False
    ) as (_, axes):
        for line, (title, row) in zip(axes, waves.items(), strict=True):
            for axis, word in zip(line, SHOWN, strict=True):
                silent = torch.zeros(max(0, round(LENGTH * RATE) - len(row[word])))
                shown = levels(torch.cat([row[word], silent]), RATE)
                top = float(shown.max())
                axis.imshow(
                    shown.numpy(), origin="lower", aspect="auto", cmap=SHADES, vmin=top - RANGE, vmax=top,
                    extent=(0, shown.shape[1] / 125, 0, RATE / 2000), interpolation="nearest",
                )  # fmt: skip
                axis.set(xlim=(0, LENGTH), title=f"{word}, {title}")
            line[0].set_ylabel("kHz")
        for axis in axes[-1]:
            axis.set_xlabel("seconds")


def recordings(data: fm.data.Data) -> dict[str, Tensor]:
    """A held-out recording of each digit by its word, re-synthesised."""
    held = data.held_out(4096)
    assert held.label is not None and held.given is not None
    made = {}
    for digit, word in enumerate(data.class_names or ()):
        row = int((held.label == digit).nonzero()[0])
        made[word] = sound(data, data.in_units(held.x0[row])[: int(held.given["valid"][row].sum())])
    return made


def generated(flow: fm.FlowMap, data: fm.data.Data, head: str, sampler: str) -> dict[str, Tensor]:
    """A generated recording of each digit by its word."""
    steps, step = HEADS[head].samplers[sampler]
    model = fm.Autoregressive.of(flow.eval())
    names = data.class_names or ()
    label = torch.arange(len(names))
    made = model.generate(length=data.shape[0], steps=steps, step=step, condition=label, seed=5)
    rows = zip(names, made.frames, made.lengths.tolist(), strict=True)
    return {word: sound(data, frames[: max(2, length)]) for word, frames, length in rows}


def sound(data: fm.data.Data, frames: Tensor) -> Tensor:
    """The wave of frames (T, C) in the units of the data, at most at full scale."""
    assert data.signal is not None
    wave = data.signal.wave(frames.float())
    return wave / max(1.0, float(wave.abs().max()))
