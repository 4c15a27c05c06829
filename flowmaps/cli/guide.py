"""What `--guidance` makes of the data, the network, the method and the teacher of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import guidance
from ..data import Data
from ..data.transforms import GuidanceScales, LabelDropout, Transform, transformed
from ..experiments.guided_run import EVERYWHERE, Interval, is_told, knows_null
from ..flow_map import FlowMap
from ..guidance.conditions import SCALE
from ..method.method import Method
from ..runs.folder import read_config
from ..students import student
from .options import Train
from .scales import LABEL_DROPOUT, interval_of, scales_of


@dataclass(frozen=True)
class Guide:
    """Guidance in training: to the classes of the data, at a scale between low and high, of which the network is told
    where they differ. interval: the times between which it acts. dropout: the share of rows without a label. taught:
    whether it is a teacher that is guided.
    """

    classes: int = 0
    low: float = 1.0
    high: float = 1.0
    interval: Interval = EVERYWHERE
    dropout: float = 0.0
    taught: bool = False

    @property
    def null(self) -> dict[str, int]:
        """The null class of our networks."""
        return {"label": self.classes}

    @property
    def told(self) -> bool:
        """Whether the network is told the scale."""
        return self.low < self.high

    @property
    def scale(self) -> float | None:
        """The scale, None where it is drawn."""
        return None if self.told else self.low

    @property
    def is_guided(self) -> bool:
        """Whether there is guidance at all, not only rows without a label."""
        return self.told or self.low != 1

    def data(self, data: Data) -> Data:
        """Training batches with some labels left out, and with scales to be told."""
        changes: list[Transform] = [LabelDropout(self.dropout, self.classes)] if self.dropout else []
        if self.told:
            changes.append(GuidanceScales(self.low, self.high, null=self.null))
        return transformed(data, *changes) if changes else data

    def method(self, method: Method) -> Method:
        """The method, which learns from the guided velocity of pairs where no teacher is guided."""
        if self.taught or not self.is_guided:
            return method
        return guidance.guided(method, guidance.imf(null=self.null, scale=self.scale, interval=self.interval))

    def teacher(self, teacher: FlowMap) -> Any:
        """The teacher's guided velocity, or the teacher itself where there is no guidance."""
        if not self.is_guided:
            return teacher
        return guidance.classifier_free(teacher, self.scale, null=self.null, interval=self.interval)

    def flow(self, flow: FlowMap) -> FlowMap:
        """The flow map, whose network is told the scale where there are several."""
        if not self.told or is_told(flow.network):
            return flow
        return flow.around(student(flow.unlimited(), told=(SCALE,), tame=False).network)

    def notes(self) -> dict[str, str]:
        """For config.json."""
        known = {}
        if self.is_guided:
            known["guidance"] = f"{self.low:g}:{self.high:g}" if self.told else f"{self.low:g}"
        if self.interval != EVERYWHERE:
            known["guidance_interval"] = "{:g}:{:g}".format(*self.interval)
        return known


def guide_of(options: Train, data: Data) -> Guide:
    """The guidance that was asked for; one of scale 1, which changes nothing, where none was.

    Raises ValueError for data without classes, a network that is not told them, a teacher that does not know the null
    class, a recipe, and an interval of no guidance.
    """
    if options.guidance is None and options.guidance_interval is not None:
        raise ValueError("--guidance-interval says when guidance acts, and there is none: it needs --guidance")
    if options.guidance is None and not options.label_dropout:
        return Guide()
    if options.recipe is not None:
        raise ValueError("a recipe brings its own guidance, so --guidance and --label-dropout do not apply")
    if data.classes is None or not options.labels:
        why = f"{data.name} has no class labels" if data.classes is None else "--no-labels leaves them out"
        option = "--label-dropout" if options.guidance is None else "--guidance"
        raise ValueError(f"{option} needs data with class labels and a network that is told them, and {why}")
    low, high = (1.0, 1.0) if options.guidance is None else scales_of(options.guidance)
    usual = LABEL_DROPOUT
    if options.teacher is not None and options.guidance is not None:
        check_teacher(options.teacher)
        usual = 0.0
    dropout = usual if options.label_dropout is None else options.label_dropout
    interval = interval_of(options.guidance_interval)
    return Guide(data.classes, low, high, interval, dropout, taught=options.teacher is not None)


def check_teacher(teacher: Path) -> None:
    """Raise ValueError for a teacher that does not know the null class."""
    config = read_config(teacher)
    if not config["training"]["labels"] or not knows_null(config):
        raise ValueError(
            f"guidance compares with the null class, which the teacher in {teacher} does not know, as it was trained "
            "with all labels or with none: train one with --label-dropout 0.1"
        )
