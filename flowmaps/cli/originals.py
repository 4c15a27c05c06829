"""What is distilled, with the data that belong to it: a run of this package, or a pipeline of diffusers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ..data import Data, load, no_data
from ..methods import Row
from ..runs.folder import read_config
from ..runs.loading import load as load_run
from ..students import Student
from .arguments import data_arguments
from .options_distill import Distill


class Original(Protocol):
    """A pretrained model on the way to a student."""

    @property
    def name(self) -> str:
        """For run folders."""
        ...

    @property
    def takes(self) -> tuple[str, ...]:
        """The conditions that its network may be given."""
        ...

    @property
    def notes(self) -> dict[str, str]:
        """For config.json."""
        ...

    def teacher(self) -> Any:
        """Its velocity."""

    def data(self, row: Row) -> Data:
        """The rows to learn from, as its network knows them."""
        ...

    def empty(self, data: Data) -> dict[str, Any]:
        """The conditions of a row that is told nothing. Raises ValueError for a model that was never asked that."""
        ...

    def null(self, data: Data) -> dict[str, Any]:
        """The conditions that guidance compares with: a negative prompt, or the empty ones."""
        ...


def original(options: Distill) -> Original:
    """A run where the folder is one, else a pipeline. Raises ValueError for options that a run has no use for."""
    if not (Path(options.folder) / "config.json").is_file() or (Path(options.folder) / "model_index.json").is_file():
        from .pipelines import Pipeline

        return Pipeline(options)
    for name in ("prompts", "negative_prompt", "classes", "moments", "cache", "component", "variant"):
        if getattr(options, name):
            raise ValueError(f"--{name.replace('_', '-')} is for pipelines, and {options.folder} is a run or one model")
    return Trained(options)


class Trained:
    """A run folder."""

    def __init__(self, options: Distill) -> None:
        self.options, self.run = options, Path(options.folder)
        self.config = read_config(self.run)
        if "flow" not in self.config:
            raise ValueError(
                f"{self.run} is neither a run nor a pipeline: where it is a model of diffusers, give the folder of the "
                "pipeline around it, with model_index.json"
            )

    @property
    def name(self) -> str:
        return self.run.resolve().name

    @property
    def takes(self) -> tuple[str, ...]:
        return ("label",) if self.config["training"]["labels"] else ()

    @property
    def notes(self) -> dict[str, str]:
        return {"teacher": str(self.run)}

    def teacher(self) -> Any:
        flow = load_run(self.run)
        if any(isinstance(part, Student) for part in flow.modules()):
            raise ValueError(
                f"{self.run} is a student already, which shares its layers between two times: distil what it was made "
                "of" + (f", {known}" if (known := self.config["notes"].get("folder")) else "")
            )
        return flow

    def data(self, row: Row) -> Data:
        """--data, or those that the run was trained on."""
        about, options = self.config["data"], self.options
        if options.data is not None:
            data = load(options.data, **data_arguments(options.data_args))
        elif row.data_free:
            classes = about["classes"] if self.takes else None
            data = no_data(about["shape"], classes, kind=about["kind"])
        else:
            from ..experiments.evaluation import run_data

            data = run_data(self.run)
        if tuple(data.shape) != tuple(about["shape"]):
            raise ValueError(
                f"{self.run} knows rows of shape {tuple(about['shape'])}, and {data.name} has {tuple(data.shape)}"
            )
        return data

    def empty(self, data: Data) -> dict[str, Any]:
        from ..experiments.guided_run import knows_null

        if not self.takes or not knows_null(self.config):
            raise ValueError(
                f"the null class, which guidance compares with, is unknown to {self.run}, as it was trained with all "
                "labels or with none: train one with --label-dropout 0.1"
            )
        return {"label": self.config["data"]["classes"]}

    def null(self, data: Data) -> dict[str, Any]:
        return self.empty(data)
