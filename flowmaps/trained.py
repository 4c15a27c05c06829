"""The jumps and conditions that a flow map was trained for, as data, and the words about everything else.

A network answers every question, also for a direction of time or a condition that its training never used. `train`
records its times and conditions in `flow.trained`. It is saved with the flow map, and calls outside of it warn once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SCALES = ("guidance", "guidance_from", "guidance_to")
"""Conditions of guidance, which `FlowMap.guidance` describes."""
NULL = "null condition"
"""Kind of the warnings about a null condition that was never trained; only the first one is shown."""
NEAR = 0.05
"""Gap s - t in the middle of time below which jumps are short enough to train the velocity, their limit, too."""


@dataclass(frozen=True)
class TrainedSpec:
    """The jumps and conditions that the weights of a flow map were trained for.

    Attributes:
        down: Whether jumps towards data, t < s, were trained.
        up: Whether jumps towards noise, t > s, were trained.
        velocity: Whether the velocity V(x, t, t) was trained at all times.
        source: The one source time of all trained jumps. None: several.
        target: The one target time of all trained jumps. None: several.
        conditions: Names of the conditions that the network got.
        dropped: Names of the conditions that some rows lacked, by label or text dropout, so that the map is also
            trained without them.
        shape: Shape of one row of data; None if it is not known.
        classes: Number of classes of the labels in training. None: no labels, or not known.
        class_names: Their names, in the order of their numbers. None: not known.
        ancestral: Whether the denoised field was trained as samples for ancestral steps, and not as a mean, so that the
            velocity is no velocity of the data (`methods.moment_matching`).
    """

    down: bool = True
    up: bool = False
    velocity: bool = True
    source: float | None = None
    target: float | None = None
    conditions: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    shape: tuple[int, ...] | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    ancestral: bool = False

    def __post_init__(self) -> None:
        for name in ("conditions", "dropped", "shape", "class_names"):  # a file has lists
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))

    @property
    def jumps(self) -> bool:
        """Whether any jumps were trained."""
        return self.down or self.up

    @property
    def warning_of_ode(self) -> str | None:
        """Say why the velocity is none to follow; None if it is one."""
        if not self.ancestral:
            return None
        return (
            "the denoised field of this flow map was trained as samples for ancestral steps, so its velocity is not "
            "the one of the data: sample it by steps=8, step=fm.steps.ancestral"
        )

    def warning_of_times(self, s: float, t: float) -> str | None:
        """Say why a call was never trained.

        Args:
            s: Source time.
            t: Target time.

        Returns:
            A sentence with advice; None if the call was trained.
        """
        if s == t:
            if self.velocity:
                return None
            return (
                "this flow map was trained on jumps alone, so its velocity is untrained: sample it by jumps "
                f"({self._advice()}), or train it with a term on the diagonal t = s too"
            )
        asked = f"it was asked for a jump from s = {s:g} to t = {t:g}"
        if not self.jumps:
            return (
                f"this flow map was trained on the diagonal t = s alone, so it has a velocity but no jumps; {asked}: "
                "follow the velocity, for example steps=50, step=fm.steps.heun, or train it by a method with jumps"
            )
        if (t > s and not self.up) or (t < s and not self.down):
            there = "from noise to data, t < s" if self.down else "from data to noise, t > s"
            way_out = "follow the velocity (step=fm.steps.heun)" if self.velocity else "keep to this direction"
            return (
                f"this flow map was trained on jumps {there}, and {asked}, which is untrained: {way_out}, or train "
                "with times=fm.times.both_directions(...)"
            )
        for name, time, only in (("source", s, self.source), ("target", t, self.target)):
            if only is not None and abs(time - only) > 1e-6:
                return (
                    f"all trained jumps of this flow map have the {name} time {only:g}, and {asked}: {self._advice()}"
                )
        return None

    def _advice(self) -> str:
        """How jumps of this map are sampled."""
        if self.source is not None:
            return "sample it in a single jump, steps=1"
        return "for several steps pass step=fm.steps.restart" if self.target is not None else "step=fm.steps.jump"

    def warning_of_tensors(self, s: Tensor, t: Tensor) -> str | None:
        """`warning_of_times` for tensors of times. It reads their values, so it waits for their device."""
        if self.up and self.down and self.velocity and self.source is None and self.target is None:
            return None
        s, t = torch.broadcast_tensors(s.reshape(-1), t.reshape(-1))
        wrong = torch.zeros_like(s, dtype=torch.bool)
        for trained, kind in ((self.up, torch.gt), (self.down, torch.lt), (self.velocity, torch.eq)):
            wrong = wrong if trained else wrong | kind(t, s)
        for time, only in ((s, self.source), (t, self.target)):
            wrong = wrong if only is None else wrong | ((s != t) & ((time - only).abs() > 1e-6))
        if not bool(wrong.any()):
            return None
        return self.warning_of_times(float(s[wrong][0]), float(t[wrong][0]))

    def warning_of_conditions(self, given: Mapping[str, Any]) -> str | None:
        """Say which condition is missing, or was never trained.

        Args:
            given: The conditions of a call by name; None stands for no condition.

        Returns:
            A sentence with advice; None if the conditions are the trained ones.
        """
        here = [name for name, value in given.items() if value is not None]
        for name in self.conditions:
            if name not in here and name not in self.dropped and name not in SCALES:
                return (
                    f"this flow map was trained with the condition {name!r} in every row, and is called without it, "
                    f"which is untrained: pass condition={{{name!r}: ...}} or flow.given({name}=...). To sample "
                    f"without it, train with label or text dropout (data.transforms.LabelDropout)"
                )
        for name in here:
            if name not in self.conditions and name not in SCALES:
                return (
                    f"this flow map was trained without the condition {name!r}, so it has not learned its values: "
                    f"sample it without {name}, or train it with {name}"
                )
        return None

    def warning_of_label(self, label: Any) -> str | None:
        """Say that labels are beyond the classes of training, such as an untrained null class.

        Args:
            label: The condition `label` of a call: a number, or a tensor. Its values are read.

        Returns:
            A sentence with advice; None if the labels were trained, or if that is not known.
        """
        if (beyond := self._beyond(label)) is None:
            return None
        return (
            f"this flow map was trained on the classes 0 to {(self.classes or 0) - 1}, with a label in every row, and "
            f"is called with the label {beyond}, which is untrained: {self._dropout('label')}"
        )

    def warning_of_null(self, null: Mapping[str, Any]) -> str | None:
        """Say that guidance compares with a condition that was never trained.

        Args:
            null: The null conditions by name. The values of labels are read.

        Returns:
            A sentence with advice; None if they were trained, or if that is not known.
        """
        for name, value in null.items():
            if name in self.conditions and name not in self.dropped and name not in SCALES:
                if name == "label" and self.classes is not None and self._beyond(value) is None:
                    continue  # guidance away from another class
                return (
                    f"guidance compares with the null value of the condition {name!r}, and this flow map was trained "
                    f"with {name!r} in every row, so its answer there is untrained: {self._dropout(name)}"
                )
        return None

    def _beyond(self, label: Any) -> int | None:
        """The largest label, if it is no class of training and labels were not dropped."""
        if self.classes is None or "label" in self.dropped or "label" not in self.conditions:
            return None
        label = torch.as_tensor(label)
        if label.is_floating_point() or label.is_complex() or not label.numel() or label.is_meta:
            return None
        largest = int(label.max())
        return largest if largest >= self.classes else None

    def _dropout(self, name: str) -> str:
        """How to train a map without a condition."""
        if name == "label":
            null = "NULL" if self.classes is None else self.classes
            return f"train with label dropout, data.transforms.transformed(data, LabelDropout(0.1, {null}))"
        return "train with dropout of this condition (data.transforms.TextDropout)"


def trained_on(
    times: Iterable[tuple[Tensor, Tensor]],
    diagonal: bool,
    conditions: Iterable[str] = (),
    dropped: Iterable[str] = (),
    shape: Iterable[int] | None = None,
    **classes: Any,
) -> TrainedSpec:
    """Describe training by times that it draws.

    Args:
        times: Pairs of source and target times (n,) that terms off the diagonal draw.
        diagonal: Whether there is a term on the diagonal t = s.
        conditions: Names of the conditions.
        dropped: Names of the conditions that some rows lack.
        shape: Shape of one row of data.
        **classes: `classes` and `class_names`, if labels are among the conditions, and `ancestral`.

    Returns:
        The description.
    """
    drawn = [pair for pair in times if len(pair[0])]
    s, t = (
        torch.cat([pair[k].detach().double().cpu().flatten() for pair in drawn] or [torch.zeros(0)]) for k in (0, 1)
    )
    off = s != t
    middle = (s - 0.5).abs() < 0.25
    near = bool(((s - t).abs()[middle] < NEAR).any())
    only = [ends[off][0].item() if off.any() and bool((ends[off] == ends[off][0]).all()) else None for ends in (s, t)]
    return TrainedSpec(
        down=bool((t < s).any()),
        up=bool((t > s).any()),
        velocity=diagonal or near,
        source=only[0],
        target=only[1],
        conditions=tuple(sorted(conditions)),
        dropped=tuple(sorted(dropped)),
        shape=None if shape is None else tuple(shape),
        **classes,
    )
