"""Folders of recordings as windows of frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..arguments import did_you_mean, expect_path, given, positive, shown, truth, within
from ..arguments.memory import as_text
from ..sampling.in_order import VALID
from ..sequences import MDCT, LogMel, Signal, Transform
from ..serialise import build, describe
from ..units import Units
from .core import HELD_OUT, IN_MEMORY, Data, generator
from .folder import files_of
from .frames import FrameRows, ZeroPadding, apart, windows
from .recordings import Recording, recordings_of
from .sources import Finite
from .standardise import CHUNK, moments, with_units
from .transformed import Transformed
from .wave_files import sound_files

PREFIX = "audio:"
"""Start of the name of a folder of recordings for `load`."""
TRANSFORMS: Mapping[str, type[Transform]] = {"mdct": MDCT, "log_mel": LogMel}
"""Transforms by their names in a shell."""
MOST_MEMORY = 4 * IN_MEMORY
"""Largest size of the frames of a data set, in bytes."""


def audio(
    folder: str,
    /,
    rate: int | None = None,
    seconds: float = 2.0,
    transform: Any = "mdct",
    *,
    labels: bool | None = None,
    held_out: float = 0.1,
) -> Data:
    """Read a folder of recordings as windows of frames, rows x_0 of shape (T, C).

    Frames are standardised, each of the C numbers by its mean and standard deviation over all training frames
    (`data.units`). A row is a window of a recording, and each frame is the middle of one training row, as far as its
    recording reaches. Frames after the end of a recording are 0, and `batch.given["valid"]`, (B, T), is False there.
    Held-out rows are windows of held-out recordings, one beside the other; recordings of the same content are either
    training recordings or held out. Class folders become labels, and train and test folders are kept, as in a folder of
    images. Recordings that are broken, silent or shorter than a frame are left out, with a warning, and listed in
    `data.skipped`. Several channels are mixed to one.

    Args:
        folder: The folder of .wav files; also .flac, .ogg, .opus and .mp3 if soundfile is installed.
        rate: Sample rate in Hz to which recordings of another rate are resampled. None: all must have the same.
        seconds: Duration of a row.
        transform: Frames of a wave: "mdct" for `fm.sequences.MDCT()`, "log_mel" for `fm.sequences.LogMel()`, or a
            transform of `flowmaps.sequences`.
        labels: False ignores class folders; True requires them. None: labels if there are class folders.
        held_out: Share of the recordings that is held out, at least one, unless there are train and test folders. 0:
            none.

    Returns:
        The data set, with its `signal`.

    Raises:
        FileNotFoundError: There is no such folder, or a link leads to nothing.
        ValueError: No recording can be used, recordings have several rates, the frames need more than 2 GB, a row has
            one frame, or an option is out of range.
        ImportError: soundfile is needed and not installed.
    """
    expect_path("folder", folder)
    positive(seconds=seconds, **given(rate=rate))
    within(0, 1, held_out=held_out)
    truth(**given(labels=labels))
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    chosen = _transform(transform)
    found = files_of(root, labels, sound_files())
    recordings = recordings_of(found, root, rate, chosen.hop)
    used, signal = recordings.used, Signal(recordings.used[0].rate, chosen)
    if signal.count(seconds) < 2:
        raise ValueError(
            f"a row of {seconds:g} seconds is a single frame of {1 / signal.frame_rate:g} seconds, which has no past: "
            "take a longer one, `seconds`"
        )
    _check_size(used, signal, root)
    held = _held_out(used, held_out)
    source, units = _source(used, held, signal, signal.count(seconds))
    recipe = {
        "name_or_path": f"{PREFIX}{root}", "rate": rate, "seconds": seconds, "transform": describe(chosen),
        "labels": labels, "held_out": held_out,
    }  # fmt: skip
    classes = found.classes or None
    data = Data(
        root.name or str(root),
        (signal.count(seconds), signal.bins),
        Transformed(source, (ZeroPadding(),), everywhere=True),
        "vectors",
        None if classes is None else len(classes),
        None if classes is None else tuple(classes),
        skipped=recordings.skipped,
        given=(VALID,),
        recipe=recipe,
        signal=signal,
        notes=(*recordings.notes, *_copies(used), _duration(used, held, signal)),
    )
    return with_units(data, units)


def _transform(transform: Any) -> Transform:
    """The transform with a name or a description."""
    if isinstance(transform, str):
        if transform not in TRANSFORMS:
            raise ValueError(
                f'unknown transform "{transform}"{did_you_mean(transform, TRANSFORMS)}; known are '
                f"{', '.join(TRANSFORMS)}, and objects of flowmaps.sequences"
            )
        return TRANSFORMS[transform]()
    made = build(transform, "transform") if isinstance(transform, dict) else transform
    if not isinstance(made, Transform):
        raise TypeError(f"a transform is a name or an object of flowmaps.sequences, got {shown(transform)}")
    return made


def _held_out(recordings: list[Recording], share: float) -> list[bool]:
    """Whether each recording is held out: as its folder says, or a random share of the different contents."""
    if any(one.held for one in recordings) and not all(one.held for one in recordings):
        return [bool(one.held) for one in recordings]
    contents = [one.content for one in recordings]
    different = list(dict.fromkeys(contents))
    kept = min(max(round(share * len(different)), 1), len(different) - 1) if share else 0
    order = torch.randperm(len(different), generator=generator(0, 0, HELD_OUT)).tolist()
    chosen = {different[at] for at in order[:kept]}
    return [content in chosen for content in contents]


def _source(recordings: list[Recording], held: list[bool], signal: Signal, length: int) -> tuple[Finite, Units]:
    """The table of windows of training recordings, the one of held-out recordings, and the units of frames."""

    def table(chosen: list[Recording], place: Any) -> FrameRows:
        parts = [signal.frames(one.wave) for one in chosen]
        sizes = [len(part) for part in parts]
        number, first, count = place(sizes, length)
        before = torch.tensor([0, *sizes]).cumsum(0)[number]
        label = None if chosen[0].label is None else torch.tensor([one.label for one in chosen])[number]
        return FrameRows(torch.cat(parts), before + first, count, length, label)

    train = table([one for one, out in zip(recordings, held, strict=True) if not out], windows)
    test = [one for one, out in zip(recordings, held, strict=True) if out]
    mean, std = moments(train.frames.split(CHUNK))
    units = Units(tuple(mean.tolist()), tuple(std.tolist()), axis=1)
    return Finite(train, table(test, apart) if test else None), units


def _check_size(recordings: list[Recording], signal: Signal, root: Path) -> None:
    """Raise ValueError if the frames are too many for the memory."""
    hop = signal.transform.hop
    size = sum(4 * signal.bins * (-(-len(one.wave) // hop) + 1) for one in recordings)
    if size > MOST_MEMORY:
        raise ValueError(
            f"the frames of {root} need {as_text(size)}, and at most {as_text(MOST_MEMORY)} are kept: pass a lower "
            "rate=, or train on a part of the recordings"
        )


def _copies(recordings: list[Recording]) -> list[str]:
    """A note about recordings with the content of another one."""
    copies = len(recordings) - len({one.content for one in recordings})
    return (
        [f"{copies} of {len(recordings)} recordings are copies of others, and stay with them in the split"]
        if copies
        else []
    )


def _duration(recordings: list[Recording], held: list[bool], signal: Signal) -> str:
    """A note about the duration of the data set."""
    minutes = sum(len(one.wave) for one in recordings) / signal.rate / 60
    return f"{len(recordings)} recordings of {minutes:.3g} minutes at {signal.rate} Hz, {sum(held)} of them held out"
