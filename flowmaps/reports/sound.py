"""The section of a page about sound: players and spectrograms of samples beside recordings, and their durations."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.wave_files import as_bytes
from ..figures import words
from ..figures.sound import levels, spectrogram
from ..sampling import sample
from ..sampling.in_order import VALID
from ..sequences.signal import Signal, lengths
from ..steps import euler, jump
from .page import Picture, Table, drawing
from .sections import Material

SHOWN = 3
"""Number of sounds of each sampler."""
COUNTED = 32
"""Number of samples whose durations are counted."""
ODE_STEPS = 16
"""Number of Euler steps of each frame."""


@dataclass(frozen=True)
class Sound:
    """A sound with its player.

    Attributes:
        picture: Its spectrogram.
        source: The .wav file as a data URI.
    """

    picture: Picture
    source: str


@dataclass(frozen=True)
class Sounds:
    """The section about sound.

    Attributes:
        sounds: Samples by one jump, by the ODE, and recordings.
        durations: Durations of samples and of recordings; None if no sample ends early.
    """

    sounds: Sequence[Sound]
    durations: Table | None


def section(material: Material) -> Sounds | None:
    """Samples by one jump and by the ODE, from the same noise, beside held-out recordings; None for other data."""
    data, signal = material.data, material.data.signal
    if signal is None:
        return None
    noise, label = material.start(COUNTED)
    flow = material.flow.standardised()
    real = data.held_out(COUNTED)
    assert real.given is not None
    z = {"1 jump": (jumped := sample(flow, noise, 1, step=jump, condition=label)), "recordings": real.x0}
    counts = {"1 jump": lengths(jumped), "recordings": real.given[VALID].sum(1)}
    if flow.has_ode:
        few = None if label is None else label[:SHOWN]
        name = words.name({"sampler": "euler", "steps": ODE_STEPS})
        z = {"1 jump": jumped, name: sample(flow, noise[:SHOWN], ODE_STEPS, step=euler, condition=few), **z}
        counts[name] = lengths(z[name])
    waves = {
        name: [signal.wave(one[: max(int(count), 2)]) for one, count in zip(x, counts[name], strict=True)][:SHOWN]
        for name, x in ((name, data.in_units(x).float().cpu()) for name, x in z.items())
    }
    ends = bool((counts["1 jump"] < noise.shape[1]).any()) or bool((counts["recordings"] < noise.shape[1]).any())
    table = _durations({name: counts[name] for name in ("1 jump", "recordings")}, signal) if ends else None
    return Sounds(_sounds(waves, signal), table)


def _sounds(waves: dict[str, list[Tensor]], signal: Signal) -> list[Sound]:
    """Players and spectrograms with the same colours and time axis, row by row."""
    every = [wave for group in waves.values() for wave in group]
    seconds, top = max(map(len, every)) / signal.rate, max(float(levels(one, signal.rate).max()) for one in every)
    found = []
    for name, group in waves.items():
        for number, wave in enumerate(group, 1):
            picture = drawing(
                lambda theme, wave=wave: spectrogram(  # type: ignore[misc]
                    wave, signal.rate, seconds=seconds, top=top, size=(3.4, 2), theme=theme
                ),
                f"Spectrogram: {name}, number {number}",
                name,
                f"{len(wave) / signal.rate:.2g} seconds",
                "framed chosen" if name == "1 jump" else "framed",
            )
            content = base64.b64encode(as_bytes(wave, signal.rate)).decode()
            found.append(Sound(picture, f"data:audio/wav;base64,{content}"))
    return found


def _durations(counts: dict[str, Tensor], signal: Signal) -> Table:
    """Mean, standard deviation and extremes of durations in seconds."""
    rows = []
    for name, count in counts.items():
        seconds = torch.tensor([signal.seconds(max(one, 1)) for one in count.tolist()])
        numbers = (seconds.mean(), seconds.std(correction=0), seconds.min(), seconds.max())
        rows.append(("", [name, *(f"{float(number):.2f}" for number in numbers)]))
    return Table(["seconds", "mean", "standard deviation", "shortest", "longest"], rows, name="durations")
