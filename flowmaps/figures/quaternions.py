"""Figures of rotations: the points of a sphere to which they take the three axes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..arguments import expect_tensor
from .earth import NAMES
from .projections import Orthographic
from .sphere import OFF, bare, dots, surface
from .style import Theme, figure, light

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AXES = "xyz"
VIEW = Orthographic(30.0, 45.0)
"""A view in which all three axes are on the near side."""


def rotations(
    x: Tensor,
    path: str | Path | None = None,
    *,
    beside: Tensor | None = None,
    axes: str = "xyz",
    theme: Theme = light,
) -> Figure:
    """Draw where rotations take the x, the y and the z axis, a globe for each axis.

    A dot is an axis after a rotation, a ring the same axis before it. Dots on the far side are pale.

    Args:
        x: Unit quaternions (N, 4), as (w, x, y, z); the sign does not matter. Rows that are not finite are left out.
        path: The file to save; its suffix chooses the format. None: not saved.
        beside: Other rotations (M, 4), such as real data, in a second row.
        axes: The axes, such as "xyz" or "z".
        theme: The colours.

    Returns:
        The figure.

    Raises:
        TypeError: These are no tensors.
        ValueError: These are no unit quaternions, or there are other axes.
    """
    if not axes or not set(axes) <= set(AXES):
        raise ValueError(f"axes must be some of {AXES}, got {axes!r}")
    rows = [_matrices("x", x), *([] if beside is None else [_matrices("beside", beside)])]
    height = 2.8 * len(rows) + 0.4
    with figure(theme, 2.8 * len(axes), height, path, nrows=len(rows), ncols=len(axes), squeeze=False) as (
        made,
        globes,
    ):
        for panels, turned, colour in zip(globes, rows, theme.series[1::-1], strict=False):
            for letter, axis in zip(axes, panels, strict=True):
                surface(axis, VIEW, bare(theme), theme.muted)
                dots(axis, VIEW, turned[:, :, AXES.index(letter)], colour, max(map(len, rows)), far=0.12)
                _axis(axis, letter, theme)
        _titles(globes, len(rows), axes)
    return made


def _matrices(name: str, x: Tensor) -> Tensor:
    """The rotation matrices (N, 3, 3) of the finite ones of unit quaternions (N, 4)."""
    expect_tensor(name, x)
    if x.ndim != 2 or x.shape[1] != 4:
        raise ValueError(f"{name} must be unit quaternions (w, x, y, z) of the shape (N, 4), got {tuple(x.shape)}")
    rows = x.detach().cpu().double()
    rows = rows[rows.isfinite().all(1)]
    wrong = (rows.norm(dim=1) - 1).abs() > OFF
    if bool(wrong.any()):
        raise ValueError(f"{name} must be unit quaternions, and {int(wrong.sum())} of {len(rows)} have another length")
    w, a, b, c = torch.nn.functional.normalize(rows, dim=1).unbind(1)
    entries = (
        1 - 2 * (b * b + c * c), 2 * (a * b - w * c), 2 * (a * c + w * b),
        2 * (a * b + w * c), 1 - 2 * (a * a + c * c), 2 * (b * c - w * a),
        2 * (a * c - w * b), 2 * (b * c + w * a), 1 - 2 * (a * a + b * b),
    )  # fmt: skip
    return torch.stack(entries, 1).reshape(-1, 3, 3)


def _axis(axis: Any, letter: str, theme: Theme) -> None:
    """Mark one axis before the rotation."""
    place, _ = VIEW.place(torch.eye(3, dtype=torch.float64)[AXES.index(letter)])
    x, y = place.tolist()
    axis.plot([0, x], [0, y], color=theme.text, linewidth=1, alpha=0.5, zorder=4)
    axis.plot([x], [y], "o", markersize=7, markerfacecolor="none", markeredgecolor=theme.text, zorder=5)
    axis.annotate(letter, (x, y), (6, -12), textcoords="offset points", color=theme.text, fontsize=12, zorder=5)


def _titles(globes: Any, rows: int, axes: str) -> None:
    """Name the axes, and the rows if there are two."""
    names: Sequence[str] = NAMES if rows > 1 else ("",)
    for panels, name in zip(globes, names, strict=True):
        for axis, letter in zip(panels, axes, strict=True):
            axis.set_title(f"{name}: turned {letter} axis" if name else f"turned {letter} axis", fontsize=11)
