"""Moving pictures: the states of samples, one after another, as a .gif or .mp4 file."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import expect_path, positive, shown
from .film_files import check_film, write_film
from .pictures import mosaic
from .plane import dots, frame, plane
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

State = Tensor | Sequence[str]
"""Samples at one time: points (N, 2), images (N, C, H, W) in [0, 1], series (N, L) or (N, C, L), or lines of text."""
Show = Callable[[Any], None]
"""Function that shows a state on an axis that was prepared for it."""
SLOWEST = 1.0
"""Longest time that a state between the first and the last is shown, in seconds."""
ALONE, BESIDE = 4.5, 3.2
"""Width of a film alone, and of one beside others, in inches."""
MIDDLE = 0.8
"""Share of the first points that is inside of the picture."""
DOTS = 100
"""Pixels per inch."""


def animate(
    films: Sequence[State] | Mapping[str, Sequence[State]],
    path: str | Path,
    *,
    captions: Sequence[str] | Mapping[str, Sequence[str]] = (),
    draw: Callable[..., Figure] | None = None,
    colours: Sequence[str] | None = None,
    seconds: float = 4.0,
    hold: float = 1.5,
    theme: Theme = light,
) -> None:
    """Write a moving picture of samples on their way, such as the states of `fm.trajectory`.

    Args:
        films: The states of the samples, in order: points (N, 2), images (N, C, H, W) in [0, 1], series (N, L) or (N,
            C, L), or lines of text. Several films by their titles are shown beside each other; one with fewer states
            stays at its last state.
        path: The file, .gif or .mp4. The latter needs the program ffmpeg.
        captions: A line below each state, for several films by their titles.
        draw: Function that draws samples, (x, path=None, *, theme=light) -> figure, such as `globe`, for samples of
            another kind. None: chosen by the shape of the samples.
        colours: Colour of each point, such as by its noise. None: the first colour of the theme.
        seconds: Duration of the way from the first state to the last; a state is shown for a second at most.
        hold: Time for which the last state stays; the first one stays for half of it.
        theme: The colours.

    Raises:
        ImportError: matplotlib or Pillow is not installed, or ffmpeg for an .mp4 file.
        OSError: The file cannot be written.
        TypeError: The states are neither tensors nor texts.
        ValueError: The file has another suffix, a film has fewer than two states or another kind of samples, or
            captions do not fit the states.
    """
    expect_path("path", path)
    check_film(Path(path))
    positive(seconds=seconds, hold=hold)
    named = films if isinstance(films, Mapping) else {"": films}
    words = captions if isinstance(captions, Mapping) else dict.fromkeys(named, captions)
    _check(named, words)
    count = max(map(len, named.values()))
    each = min(SLOWEST, seconds / (count - 1))
    durations = [max(hold / 2, each), *[each] * (count - 2), max(hold, each)]
    side = ALONE if len(named) == 1 else BESIDE
    tall = max(_height(states[-1], draw) for states in named.values())
    ends = [state for states in named.values() for state in (states[0], states[-1])]
    with figure(theme, side * len(named), side * tall + 0.65, ncols=len(named), squeeze=False) as (made, axes):
        made.set_dpi(DOTS)
        prepare = _kind(ends[-1], draw, colours, theme)
        panels = []
        for axis, (title, states) in zip(axes[0], named.items(), strict=True):
            axis.set_title(title, loc="center")
            panels.append(_Panel(axis, prepare(axis, ends), states, words.get(title, ())))
        write_film(Path(path), made, _frames(made, panels, count), durations)


@dataclass(frozen=True)
class _Panel:
    """A film on its axis."""

    axis: Any
    show: Show
    states: Sequence[State]
    captions: Sequence[str]

    def turn_to(self, at: int) -> None:
        """Show the state of this number, or the last one."""
        at = min(at, len(self.states) - 1)
        self.show(self.states[at])
        self.axis.set_xlabel(self.captions[at] if self.captions else "")


def _frames(made: Figure, panels: Sequence[_Panel], count: int) -> Iterator[None]:
    """Turn all panels to one frame after another."""
    for at in range(count):
        for panel in panels:
            panel.turn_to(at)
        if at == 0:
            made.draw_without_rendering()
            made.set_layout_engine("none")  # the panels keep their places
        yield


def _check(films: Mapping[str, Sequence[State]], captions: Mapping[str, Sequence[str]]) -> None:
    """Check states and captions before anything is drawn."""
    if not films:
        raise ValueError("a moving picture needs at least one film, got none")
    if other := [title for title in captions if title not in films]:
        raise ValueError(f"captions are for {', '.join(map(shown, films))}, got {shown(other[0])}")
    for title, states in films.items():
        name = f" {title!r}" if title else ""
        if len(states) < 2:
            raise ValueError(f"a film{name} needs at least two states, got {len(states)}")
        for state in states:
            if not isinstance(state, Tensor) and not _is_text(state):
                raise TypeError(f"states are tensors or lines of text, got {shown(state)}")
        forms = {tuple(state.shape) if isinstance(state, Tensor) else "text" for state in states}
        if len(forms) > 1:
            raise ValueError(f"the states of a film{name} have one shape, got {' and '.join(map(str, forms))}")
        lines = captions.get(title, ())
        if lines and len(lines) != len(states):
            raise ValueError(f"a film{name} of {len(states)} states needs as many captions, got {len(lines)}")


def _is_text(state: Any) -> bool:
    return isinstance(state, list | tuple) and bool(state) and all(isinstance(line, str) for line in state)


def _kind(
    state: State, draw: Callable[..., Figure] | None, colours: Sequence[str] | None, theme: Theme
) -> Callable[[Any, Sequence[Any]], Show]:
    """Choose how samples are shown: a function of an axis and the states at both ends, which prepares the axis."""
    if draw is not None:
        return lambda axis, states: _drawn(axis, draw, theme)
    if not isinstance(state, Tensor):
        return lambda axis, states: _texts(axis, states, theme)
    if state.ndim == 2 and state.shape[1] == 2:
        return lambda axis, states: _points(axis, states, colours or theme.series[0])
    if state.ndim == 4 and state.shape[1] in (1, 3, 4):
        return lambda axis, states: _images(axis, states)
    if state.ndim in (2, 3) and state.shape[-1] > 1:
        return lambda axis, states: _curves(axis, states, theme)
    raise ValueError(
        "points (N, 2), images (N, C, H, W) with 1, 3 or 4 channels, series (N, L) or (N, C, L) and lines of text can "
        f"be shown, got {tuple(state.shape)}: pass a figure for them, `draw`"
    )


def _height(state: State, draw: Callable[..., Figure] | None) -> float:
    """Height of a panel over its width."""
    if draw is not None:
        width, height = draw(state).get_size_inches()
        return float(height / width)
    if isinstance(state, Tensor) and state.ndim == 4:
        height, width = mosaic(state).shape[:2]
        return height / width
    return 1.0 if isinstance(state, Tensor) else 0.075 * len(state)


def _points(axis: Any, states: Sequence[Tensor], colours: Any) -> Show:
    """Dots in the plane, in a square that holds the last states of all films and most of the first ones."""
    held = list(states[1::2])
    for noise in states[::2]:
        far = (noise - noise.mean(0)).norm(dim=1)
        held.append(noise[far.argsort()[: math.ceil(MIDDLE * len(noise))]])
    plane(axis, *frame(torch.cat([state.detach().cpu().double() for state in held])))
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(True)
    dots(axis, states[0], colours)
    [cloud] = axis.collections
    return lambda x: cloud.set_offsets(x.detach().cpu().numpy())


def _images(axis: Any, states: Sequence[Tensor]) -> Show:
    """A grid of images."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    picture = axis.imshow(mosaic(states[0]).numpy(), interpolation="nearest")
    return lambda x: picture.set_data(mosaic(x).numpy())


def _curves(axis: Any, states: Sequence[Tensor], theme: Theme) -> Show:
    """Series in a grid, each channel in a colour of the theme, at the scale of the last states."""
    from matplotlib.collections import LineCollection

    count, length = len(states[0]), states[0].shape[-1]
    channels = states[0].shape[1] if states[0].ndim == 3 else 1
    columns = max(1, round(count**0.5 / 1.5))
    data = torch.cat([state.detach().cpu().double().flatten() for state in states[1::2]])
    low, high = float(data.nan_to_num().min()), float(data.nan_to_num().max())
    k = torch.arange(count)
    across = torch.linspace(0, 0.9, length, dtype=torch.float64) + (k % columns)[:, None]
    down = -(k // columns)[:, None, None].double()

    def segments(x: Tensor) -> list[Any]:
        height = (x.detach().cpu().double().reshape(count, channels, length) - low) / (high - low or 1.0)
        height = 0.7 * height.clamp(-0.25, 1.25) + down
        return list(torch.stack((across[:, None].expand_as(height), height), -1).flatten(0, 1).numpy())

    colours = [theme.series[c % len(theme.series)] for _ in range(count) for c in range(channels)]
    lines = LineCollection(segments(states[0]), colors=colours, linewidths=1.4)
    axis.add_collection(lines)
    axis.set(xlim=(-0.03, columns), ylim=(float(down.min()) - 0.2, 0.9), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return lambda x: lines.set_segments(segments(x))


def _texts(axis: Any, states: Sequence[Sequence[str]], theme: Theme) -> Show:
    """Lines of text, of one width a character."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    longest = max(len(line) for state in states for line in state)
    side = 72 * axis.figure.get_figwidth() / len(axis.figure.axes)  # in points, as the size of letters
    size = min(0.05 * side, 0.95 * side / (0.62 * max(longest, 1)))
    look = {"family": "monospace", "fontsize": size, "color": theme.text, "linespacing": 1.35}
    place = axis.text(0, 1, "", va="top", transform=axis.transAxes, parse_math=False, **look)
    return lambda lines: place.set_text("\n".join(lines))


def _drawn(axis: Any, draw: Callable[..., Figure], theme: Theme) -> Show:
    """Any figure, as pixels."""
    from matplotlib.image import imread

    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)

    def show(x: Any) -> None:
        buffer = BytesIO()
        draw(x, theme=theme).savefig(buffer, format="png", dpi=2 * DOTS)  # figures are half as wide as a film
        buffer.seek(0)
        pixels = imread(buffer)
        if axis.images:
            axis.images[0].set_data(pixels)
        else:
            axis.imshow(pixels)

    return show
