"""Sound files: waves read from .wav and other files, and written as 16-bit .wav files."""

from __future__ import annotations

import importlib.util
import io
import warnings
import wave as standard
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..arguments import between, expect_tensor, install
from ..files import replacing
from ..sequences.signal import HIGHEST_RATE
from .folder_files import FileKind

COMPRESSED = frozenset((".flac", ".ogg", ".opus", ".mp3"))
"""Suffixes of files that are read with soundfile, in lower case."""
UNREAD = frozenset(".m4a .aac .aif .aiff .au .wma .gsm .sln .amr .webm".split())
"""Suffixes of sound files that are not read, in lower case."""
WAVE = ".wav"


def sound_files() -> FileKind:
    """The kind of files that hold sound: .wav, and compressed ones if soundfile is installed."""
    if importlib.util.find_spec("soundfile") is None:
        return FileKind("sound files", frozenset((WAVE,)), UNREAD | COMPRESSED, WAVE)
    return FileKind("sound files", COMPRESSED | {WAVE}, UNREAD, WAVE)


def read_wave(path: Path) -> tuple[Tensor, int]:
    """Read a sound file.

    Whole numbers of 8, 16, 24 and 32 bits in a .wav file are read by the standard library, other files by soundfile.

    Args:
        path: The file.

    Returns:
        The channels (channels, N), float32 in [-1, 1), and the sample rate in Hz.

    Raises:
        ValueError: The file is broken, empty, or of another format.
        ImportError: The file needs soundfile, which is not installed.
        OSError: The file cannot be opened.
    """
    if path.suffix.lower() != WAVE:
        return _by_soundfile(path)
    try:
        with standard.open(str(path), "rb") as file:
            channels, width, rate = file.getnchannels(), file.getsampwidth(), file.getframerate()
            content, count = file.readframes(file.getnframes()), file.getnframes()
    except (standard.Error, EOFError) as error:
        if str(error).startswith("unknown format"):  # floating-point numbers, for example
            return _by_soundfile(path)
        raise ValueError(f"{path} is no .wav file: {str(error) or 'it ends too early'}") from None
    if width not in (1, 2, 3, 4) or not 1 <= rate <= HIGHEST_RATE:
        raise ValueError(f"{path} has {8 * width} bits a sample at {rate} Hz, and 8, 16, 24 or 32 bits are read")
    if len(content) < count * channels * width or not count:
        raise ValueError(f"{path} is cut off: it has {len(content)} of {count * channels * width} bytes of sound")
    return _numbers(bytearray(content), width).reshape(-1, channels).T, rate


def mono(path: Path) -> tuple[Tensor, int]:
    """Read a sound file as one wave, the mean of its channels.

    Args:
        path: The file.

    Returns:
        The wave (N,), float32, and the sample rate in Hz.

    Raises:
        ValueError: As `read_wave`.
        ImportError: As `read_wave`.
        OSError: As `read_wave`.
    """
    channels, rate = read_wave(path)
    return channels.mean(0), rate


def write_wave(path: Path, wave: Tensor, rate: int) -> None:
    """Write a wave as a .wav file of 16 bits.

    Samples beyond full scale, [-1, 1], are clipped, with a warning that gives their share.

    Args:
        path: The file.
        wave: The wave (N,).
        rate: Sample rate, in Hz.

    Raises:
        ValueError: The wave has another shape, no samples, or values that are not finite.
    """
    content = as_bytes(wave, rate)
    if share := float((wave.abs() > 1).double().mean()):
        warnings.warn(
            f"{share:.2g} of the samples of {path.name} are beyond full scale, up to {float(wave.abs().max()):.2f}, "
            "and are clipped",
            stacklevel=3,
        )
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def as_bytes(wave: Tensor, rate: int) -> bytes:
    """The content of a .wav file of 16 bits; samples beyond full scale are clipped.

    Args:
        wave: The wave (N,).
        rate: Sample rate, in Hz.

    Returns:
        The content.

    Raises:
        ValueError: The wave has another shape, no samples, or values that are not finite.
    """
    between(1, HIGHEST_RATE, rate=rate)
    expect_tensor("wave", wave)
    if wave.ndim != 1 or not len(wave):
        raise ValueError(f"a wave has shape (N,), got {tuple(wave.shape)}")
    x = wave.detach().double().cpu()
    if not bool(x.isfinite().all()):
        raise ValueError(f"a wave must be finite, and {int((~x.isfinite()).sum())} of its {len(x)} samples are not")
    levels = (x * 32768).round().clamp(-32768, 32767).to(torch.int16)
    content = io.BytesIO()
    with standard.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(bytes(levels.view(torch.uint8).tolist()))
    return content.getvalue()


def _numbers(content: bytearray, width: int) -> Tensor:
    """Samples in [-1, 1) of whole numbers of `width` bytes, little-endian; 8 bits have no sign."""
    if width == 1:
        return (torch.frombuffer(content, dtype=torch.uint8).float() - 128) / 128
    if width == 3:  # the three high bytes of four
        padded = torch.zeros(len(content) // 3, 4, dtype=torch.uint8)
        padded[:, 1:] = torch.frombuffer(content, dtype=torch.uint8).reshape(-1, 3)
        return padded.view(torch.int32).flatten().float() / 2**31
    whole = {2: torch.int16, 4: torch.int32}[width]
    return torch.frombuffer(content, dtype=whole).float() / 2 ** (8 * width - 1)


def _by_soundfile(path: Path) -> tuple[Tensor, int]:
    """Read a file with soundfile."""
    try:
        import soundfile
    except ImportError:
        raise ImportError(f"{path} is no .wav file of whole numbers; soundfile reads it: {install('audio')}") from None
    try:
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if not len(samples):
        raise ValueError(f"{path} holds no samples")
    return torch.from_numpy(cast(Any, samples)).T, int(rate)
