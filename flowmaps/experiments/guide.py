"""The guidance of an experiment: its effect on data, network, method and teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import guidance
from ..arguments import finite, shown
from ..data import Data
from ..data.transforms import GuidanceScales, LabelDropout, TextDropout, Transform, transformed
from ..flow_map import FlowMap
from ..guidance.conditions import SCALE
from ..method.method import Method
from ..methods import Row
from ..networks.with_backbone import has_backbone
from ..runs.folder import read_config
from ..sequences import guided_contexts
from ..students import student
from .build import ModelLike, is_path
from .guided_run import EVERYWHERE, TimeInterval, is_conditioned, knows_null

LABEL_DROPOUT = 0.1
"""Share of rows without a label in guided training, as in Ho and Salimans 2022 (arXiv 2207.12598)."""

Scales = float | tuple[float, float]
"""One scale of guidance, or the range that scales are drawn from."""


@dataclass(frozen=True)
class Guide:
    """The guidance that a flow map learns. The default changes nothing.

    Args:
        low: The scale, or the smallest one.
        high: The largest scale; the network is guidance-conditioned if it differs from `low`.
        interval: The times between which guidance acts.
        null: The null conditions of guidance by name. None: no guided velocity is computed.
        empty: The conditions of rows without a class or text.
        dropout: Share of rows without their class or text.
        taught: Whether the teacher is guided, instead of pairs of noise and data.
        built_in: Whether the pretrained network takes the scale itself, so that no guided velocity is computed.
    """

    low: float = 1.0
    high: float = 1.0
    interval: TimeInterval = EVERYWHERE
    null: Mapping[str, Any] | None = None
    empty: Mapping[str, Any] | None = None
    dropout: float = 0.0
    taught: bool = False
    built_in: bool = False

    @property
    def conditioned(self) -> bool:
        """Whether the network must be made guidance-conditioned."""
        return self.low < self.high and not self.built_in

    @property
    def drawn(self) -> bool:
        """Whether each row gets a scale as a condition."""
        return self.low < self.high or self.built_in

    @property
    def scale(self) -> float | None:
        """The scale of all rows; None if the network is guidance-conditioned."""
        return None if self.conditioned else self.low

    def data(self, data: Data) -> Data:
        """The data with label or text dropout, and with scales as conditions."""
        transforms: list[Transform] = []
        if self.dropout and self.empty is not None:
            label = self.empty.get("label")
            transforms += [
                TextDropout(self.dropout, self.empty) if label is None else LabelDropout(self.dropout, label)
            ]
        if self.drawn:
            transforms += [GuidanceScales(self.low, self.high, null=self.empty)]
        return transformed(data, *transforms) if transforms else data

    def method(self, method: Method) -> Method:
        """The method, with the guided velocity of pairs as its velocity if no teacher is guided."""
        if self.taught or self.null is None:
            return method
        return guidance.guided(method, guidance.imf(null=self.null, scale=self.scale, interval=self.interval))

    def teacher(self, teacher: Any) -> Any:
        """The guided velocity of the teacher, or the teacher itself without null conditions.

        Raises:
            ValueError: The teacher is a head on a backbone, and there is a range of scales or an interval.
        """
        if self.null is None:
            return teacher
        if has_backbone(getattr(teacher, "network", None)):
            if self.scale is None or self.interval != EVERYWHERE:
                raise ValueError("the guidance of a head on a backbone mixes contexts: it is one scale for all times")
            return guided_contexts(teacher, self.scale, self.null)
        return guidance.classifier_free(teacher, self.scale, null=self.null, interval=self.interval)

    def flow(self, flow: FlowMap) -> FlowMap:
        """The flow map, made guidance-conditioned if it learns a range of scales."""
        if not self.conditioned or is_conditioned(flow.network):
            return flow
        return flow.around(student(flow.unlimited(), told=(SCALE,), tame=False).network)

    def notes(self) -> dict[str, str]:
        """Scale and interval as text, for config.json."""
        known = {}
        if self.drawn or self.low != 1:
            known["guidance"] = range_text(self.low, self.high)
        if self.interval != EVERYWHERE:
            known["guidance_interval"] = "{:g}:{:g}".format(*self.interval)
        return known


def scale_range(scales: Scales) -> tuple[float, float]:
    """Check a scale of guidance, or a range.

    Args:
        scales: w, or (smallest, largest).

    Returns:
        The smallest and the largest scale.

    Raises:
        ValueError: A scale is not positive or not finite, or the range is empty.
    """
    ends = tuple(scales) if isinstance(scales, tuple | list) else (scales, scales)
    if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
        raise TypeError(f"`guidance` is a scale, or a range such as (1, 8), got {shown(scales)}")
    low, high = ends
    if not 0 < low <= high < math.inf:
        got = range_text(low, high)
        raise ValueError(f"`guidance` is a positive scale, or a range from a smaller to a larger one, got {got}")
    return float(low), float(high)


def time_interval(interval: TimeInterval | None) -> TimeInterval:
    """Check the times between which guidance acts.

    Args:
        interval: (start, end). None: all times.

    Returns:
        The two times.

    Raises:
        ValueError: They do not lie in [0, 1] in this order.
    """
    if interval is not None and (not isinstance(interval, tuple | list) or len(interval) != 2):
        raise TypeError(f"`guidance_interval` is two times, such as (0.2, 0.8), got {shown(interval)}")
    start, end = EVERYWHERE if interval is None else interval
    finite(start=start, end=end)
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"`guidance_interval` is two times in [0, 1], the smaller one first, got {range_text(start, end)}"
        )
    return float(start), float(end)


def range_text(low: float, high: float) -> str:
    """A number or a range as text: 2 or 1:8."""
    return f"{low:g}" if low == high else f"{low:g}:{high:g}"


def guide_of_training(
    data: Data,
    *,
    guidance: Scales | None = None,
    guidance_interval: TimeInterval | None = None,
    label_dropout: float | None = None,
    labels: bool = True,
    teacher: ModelLike | Any = None,
    recipe: Any = None,
) -> Guide:
    """Make the guidance of a training run.

    Args:
        data: The data set, for its classes.
        guidance: As for `train`.
        guidance_interval: As for `train`.
        label_dropout: As for `train`.
        labels: Whether the network takes class labels.
        teacher: Run folder or flow map of the teacher to guide. None: pairs are guided.
        recipe: Recipe of the run, which brings its own guidance.

    Returns:
        The guidance; it changes nothing if no guidance is requested.

    Raises:
        ValueError: The data have no classes, the network does not take them, the teacher does not know the null class,
            a recipe is given, or an interval is given without guidance.
    """
    if guidance is None and guidance_interval is not None:
        raise ValueError("`guidance_interval` applies to guidance: it needs `guidance`")
    if guidance is None and not label_dropout:
        return Guide()
    if recipe is not None:
        raise ValueError("a recipe brings its own guidance, so `guidance` and `label_dropout` do not apply")
    if data.classes is None or not labels:
        why = f"{data.name} has no class labels" if data.classes is None else "`labels=False` leaves them out"
        option = "`label_dropout`" if guidance is None else "`guidance`"
        raise ValueError(f"{option} needs data with class labels and a network that takes them, and {why}")
    low, high = (1.0, 1.0) if guidance is None else scale_range(guidance)
    interval, usual = time_interval(guidance_interval), LABEL_DROPOUT
    if teacher is not None and guidance is not None:
        check_teacher(teacher)
        usual = 0.0
    empty = {"label": data.classes}
    return Guide(
        low,
        high,
        interval,
        null=empty if low < high or low != 1 else None,
        empty=empty,
        dropout=usual if label_dropout is None else label_dropout,
        taught=teacher is not None,
    )


def with_null(
    row: Row, data: Data, arguments: Mapping[str, Any] | None, *, labels: bool, label_dropout: float
) -> dict[str, Any]:
    """Add the null class of the data to the arguments of a method that compares with it.

    Args:
        row: The row of the method.
        data: The data set, for its classes.
        arguments: The arguments that are given.
        labels: Whether the network takes class labels.
        label_dropout: Share of rows without their label.

    Returns:
        The arguments, with `null` unless it is given.

    Raises:
        ValueError: The data have no classes, the network does not take them, or no row lacks its label.
    """
    if data.classes is None or not labels:
        why = f"{data.name} has no class labels" if data.classes is None else "`labels=False` leaves them out"
        raise ValueError(
            f"{row.name} compares with a null class, so it needs data with class labels and a network that takes "
            f"them, and {why}"
        )
    if not label_dropout:
        raise ValueError(f"{row.name} compares with a null class, which rows without a label teach: leave some out")
    return {"null": {"label": data.classes}, **(arguments or {})}


def check_teacher(teacher: ModelLike | Any) -> None:
    """Raise ValueError for a teacher that does not know the null class, as far as a run or a flow map says that."""
    if is_path(teacher):
        config = read_config(Path(teacher))
        known, name = bool(config["training"]["labels"]) and knows_null(config), f"the teacher in {teacher}"
    else:
        trained = getattr(teacher, "trained", None)
        known, name = trained is None or "label" in trained.dropped, "the teacher"
    if not known:
        raise ValueError(
            f"guidance compares with the null class, which {name} does not know, as it was trained with all labels or "
            "with none: train one with `label_dropout=0.1`"
        )
