"""Pretrained models to distil, with their data: a run of this package, or a pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from ..data import Data, no_data
from ..data.standardise import with_units
from ..methods import Row
from ..runs.folder import read_config
from ..runs.loading import load
from ..students import Student
from .guided_run import knows_null, null_class
from .run_data import run_data, with_classes_of
from .trained_run import Say, data_of, silent, units_of_model


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options of a pretrained model, as for `distill`; the options from `prompts` to `variant` are for pipelines.

    Args:
        half: Whether frozen weights are kept in bfloat16.
        device: Device of the encoders. None: a GPU if there is one.
        say: Receives a line for each encoded part.
    """

    data: Any = None
    data_args: Mapping[str, Any] | None = None
    prompts: str | Path | Sequence[str] | None = None
    negative_prompt: str | None = None
    classes: int | str | Path | Sequence[str] | None = None
    moments: bool = False
    cache: str | Path | None = None
    component: str | None = None
    variant: str | None = None
    half: bool = False
    device: Any = None
    say: Say = silent


FOR_PIPELINES = tuple(
    field.name for field in fields(SourceOptions) if field.name not in ("data", "data_args", "half", "device", "say")
)


class PretrainedSource(Protocol):
    """A pretrained model: its velocity and its data."""

    @property
    def name(self) -> str:
        """Name for run folders."""
        ...

    @property
    def takes(self) -> tuple[str, ...]:
        """The conditions that its network accepts."""
        ...

    @property
    def notes(self) -> dict[str, str]:
        """Its origin, for config.json."""
        ...

    def teacher(self) -> Any:
        """Its velocity."""

    def data(self, row: Row) -> Data:
        """The rows that a method learns from, in the form that the network takes."""
        ...

    def empty(self, data: Data) -> dict[str, Any]:
        """The conditions of a row without class or text. Raises ValueError for a model without a null condition."""
        ...

    def null(self, data: Data) -> dict[str, Any]:
        """The null conditions of guidance: a negative prompt, or the conditions without class or text."""
        ...


class RunSource:
    """A run folder as a pretrained model.

    Args:
        run: The folder.
        options: Options of the model.

    Raises:
        ValueError: It is neither a run nor a pipeline.
    """

    def __init__(self, run: Path, options: SourceOptions) -> None:
        self.run, self.options, self.config = run, options, read_config(run)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.run.resolve().name

    @property
    def takes(self) -> tuple[str, ...]:
        """The class label, if it was trained with labels."""
        return ("label",) if self.config["training"]["labels"] else ()

    @property
    def notes(self) -> dict[str, str]:
        """The folder, as the teacher."""
        return {"teacher": str(self.run)}

    def teacher(self) -> Any:
        """The flow map. Raises ValueError for a student."""
        flow = load(self.run)
        if any(isinstance(part, Student) for part in flow.modules()):
            raise ValueError(
                f"{self.run} is already a student of a pretrained model: distil the pretrained model"
                + (f", {known}" if (known := self.config["notes"].get("folder")) else "")
            )
        return flow

    def data(self, row: Row) -> Data:
        """The given data with the classes of the run, or else the data of the run.

        Raises:
            ValueError: Rows have another shape, a class is none of the run, or labels are missing.
        """
        about, options = self.config["data"], self.options
        if options.data is not None:
            data = with_units(data_of(options.data, options.data_args), units_of_model(self.run))
        elif row.data_free:
            classes = about["classes"] if self.takes else None
            data = no_data(about["shape"], classes, kind=about["kind"])
        else:
            data = run_data(self.run)
        if tuple(data.shape) != tuple(about["shape"]):
            raise ValueError(
                f"{self.run} takes rows of shape {tuple(about['shape'])}, and {data.name} has {tuple(data.shape)}"
            )
        if self.takes and data.classes is None and not knows_null(self.config):
            raise ValueError(f"{self.run} was trained with class labels alone, and {data.name} has none")
        return data if options.data is None else with_classes_of(self.run, data)

    def empty(self, data: Data) -> dict[str, Any]:
        """The null class. Raises ValueError if the run does not know it."""
        null = null_class(self.config) if self.takes else None
        if null is None:
            raise ValueError(
                f"guidance needs the null class, which {self.run} does not know, as it was trained with all labels or "
                "with none: train one with `label_dropout=0.1`"
            )
        return {"label": null}

    def null(self, data: Data) -> dict[str, Any]:
        """The null class."""
        return self.empty(data)
