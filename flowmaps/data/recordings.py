"""The recordings of a folder."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ..files.tensors import add_tensor
from ..sequences.resample import resample
from .folder import Found
from .wave_files import read_wave

PEAK, CLIPPED = 0.98, 1e-3
"""Least peak of a clipped recording, and the share of samples at the peak from which a recording counts as clipped."""


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording.

    Args:
        name: Its file.
        wave: Its samples (N,).
        rate: Its sample rate, in Hz.
        label: Number of its class.
        held: Whether it is held out; None: its folder does not say.
        channels: Number of channels of the file.
        peaks: Share of the samples at the peak, if it is at full scale; else 0.
    """

    name: str
    wave: Tensor
    rate: int
    label: int | None
    held: bool | None
    channels: int = 1
    peaks: float = 0.0

    @cached_property
    def content(self) -> bytes:
        """A checksum of its samples."""
        digest = hashlib.sha256()
        add_tensor(digest, self.wave)
        return digest.digest()


@dataclass(frozen=True)
class Recordings:
    """The recordings of a folder that can be used.

    Args:
        used: The recordings, at one sample rate.
        skipped: The others, each with its reason.
        notes: Facts about the files.
    """

    used: list[Recording]
    skipped: list[str]
    notes: list[str]


def recordings_of(found: Found, root: Path, rate: int | None, least: int) -> Recordings:
    """Read the recordings of a folder.

    A warning names those that are left out because they are broken, silent or too short, and those that are clipped.

    Args:
        found: The files.
        root: The folder.
        rate: Sample rate in Hz to which others are resampled. None: all must have the same.
        least: Least number of samples of a recording.

    Returns:
        The recordings.

    Raises:
        ValueError: None can be used, or they have several sample rates.
    """
    read = [_read(path, found, at, root) for at, path in enumerate(found.paths)]
    whole = [one for one in read if isinstance(one, Recording)]
    _warn_clipped(whole, root)
    several = sum(one.channels > 1 for one in whole)
    notes = [f"{several} of {len(whole)} recordings have several channels, which are mixed to one"] if several else []
    whole = _at_one_rate(whole, rate, root)
    used = [one for one in whole if len(one.wave) >= least]
    skipped = [one for one in read if isinstance(one, str)]
    skipped += [
        f"{one.name} has {len(one.wave)} samples, less than the {least} of a frame"
        for one in whole
        if len(one.wave) < least
    ]
    if not used:
        raise ValueError(f"no recording of {root} can be used, the first of {len(skipped)}: {skipped[0]}")
    if skipped:
        listed = "; ".join(skipped[:5]) + ("; ..." if len(skipped) > 5 else "")
        warnings.warn(f"{len(skipped)} of {len(read)} recordings of {root} are left out: {listed}", stacklevel=4)
    return Recordings(used, skipped, notes)


def _read(path: Path, found: Found, at: int, root: Path) -> Recording | str:
    """A recording, or the reason why it cannot be used."""
    name = str(path.relative_to(root))
    try:
        channels, rate = read_wave(path)
    except (ValueError, OSError) as error:
        return f"{name} {str(error).removeprefix(f'{path} ')}"
    wave = channels.mean(0)
    if not bool(wave.any()):
        return f"{name} is silent: all its samples are 0"
    label = None if found.label is None else int(found.label[at])
    held = None if found.held is None else bool(found.held[at])
    peak = channels.abs().max()
    clipped = float((channels.abs() == peak).float().mean()) if float(peak) >= PEAK else 0.0
    return Recording(name, wave, rate, label, held, len(channels), clipped)


def _at_one_rate(recordings: list[Recording], rate: int | None, root: Path) -> list[Recording]:
    """The recordings at one sample rate."""
    rates = Counter(one.rate for one in recordings)
    if rate is None and len(rates) > 1:
        first = {one.rate: one.name for one in reversed(recordings)}
        listed = ", ".join(f"{count} of {own} Hz (such as {first[own]})" for own, count in rates.most_common())
        raise ValueError(
            f"recordings of {root} have different sample rates, {listed}: pass rate={rates.most_common(1)[0][0]} to "
            "resample them"
        )
    if rate is None:
        return recordings
    return [replace(one, wave=resample(one.wave, one.rate, rate), rate=rate) for one in recordings]


def _warn_clipped(recordings: list[Recording], root: Path) -> None:
    """Warn about recordings with many samples at full scale."""
    clipped = [one for one in recordings if one.peaks > CLIPPED]
    if clipped:
        worst = max(clipped, key=lambda one: one.peaks)
        warnings.warn(
            f"{len(clipped)} of {len(recordings)} recordings of {root} are clipped: {worst.peaks:.2g} of the samples "
            f"of {worst.name} are at full scale",
            stacklevel=5,
        )
