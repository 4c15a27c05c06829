"""`compare`: several methods on the same network, data and length; one table and one page.

The folder `out` holds:

- `comparison.json`: the configuration shared by all methods; a different one is refused
- `METHOD/`: one run folder for each method, with its `evaluation.json`
- `teacher/`: the diffusion model that distillation methods learn from, if none is given
- `table.md`, `table.json`, `report.html`

Finished parts are kept, so the same call continues an interrupted comparison.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import at_least
from ..data import Data
from ..figures import comparison
from ..figures.words import markdown_table
from ..files import write_json, write_text
from ..runs.fingerprint import fingerprint
from ..serialise import current, differences
from .build import MethodLike, NetworkName, OutputName, rows_of
from .checks import check_by_name, check_networks, check_settings_of_training, folder_of
from .comparison_runs import ComparisonRuns
from .reporting import comparison_report
from .trained_run import LEARNING, Say, TrainedRun, check_settings, data_of, settings_of_training, silent
from .training_setup import COUPLINGS, STEPS, length_of

METHODS = ("meanflow", "imf", "lsd", "shortcut")


@dataclass(frozen=True)
class ComparisonResult:
    """A finished comparison. A notebook shows its table.

    Args:
        folder: The folder, with a run folder for each method.
        document: The content of table.json: measures, cost and failures by method.
    """

    folder: Path
    document: Mapping[str, Any]

    @property
    def heading(self) -> str:
        """Data, length, metric and noise floor, in one line."""
        return comparison.heading(dict(self.document))

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return comparison.table(dict(self.document))[0]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of the table: a row for each method and one for the reference."""
        return comparison.table(dict(self.document))[1]

    @property
    def notes(self) -> list[str]:
        """Notes: failures, methods with other samplers, and the meaning of the columns."""
        return comparison.notes(dict(self.document))

    @property
    def markdown(self) -> str:
        """The content of table.md."""
        return "\n\n".join([self.heading, markdown_table(self.columns, self.rows), *self.notes]) + "\n"

    @property
    def page(self) -> Path:
        """The page with samples, losses and cost, report.html."""
        return self.folder / "report.html"

    @property
    def runs(self) -> dict[str, TrainedRun]:
        """The runs of the methods that did not fail, by name."""
        return {name: TrainedRun(self.folder / name) for name in comparison.evaluated(dict(self.document))}

    def _repr_markdown_(self) -> str:
        """The table, for notebooks."""
        return self.markdown


def compare(
    data: Any,
    methods: Sequence[MethodLike] = METHODS,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    network: NetworkName = "auto",
    width: int | None = None,
    depth: int | None = None,
    output: OutputName = "auto",
    labels: bool = True,
    data_args: Mapping[str, Any] | None = None,
    couplings: int = COUPLINGS,
    teacher: str | Path | TrainedRun | None = None,
    out: str | Path | None = None,
    say: Say = silent,
    **settings: Any,
) -> ComparisonResult:
    """Train several methods on the same network, data and length, evaluate each, and write one table and one page.

    Finished parts of the folder are kept, so the same call resumes an interrupted comparison. Distillation methods
    learn from `teacher`, or else from a diffusion model that is trained first, for the same length. A method that
    fails becomes an entry of the table, and the other methods continue.

    Args:
        data: Name, folder or file of a data set as for `data.load`, or a `Data`, a tensor, ... as for `data.as_data`.
        methods: Names of methods, or their functions or rows.
        steps: Training steps of each method. None: 5000, unless `seconds` is given.
        seconds: Training time of each method, instead of `steps`. Such runs do not give the same numbers twice.
        network: As for `train`.
        width: As for `train`.
        depth: As for `train`.
        output: As for `train`.
        labels: As for `train`.
        data_args: Options of a data set that is given by name.
        couplings: Number of couplings, for methods that train on couplings.
        teacher: Run folder of the model that distillation methods learn from and that makes couplings. None: one is
            trained.
        out: Folder of the comparison. None: runs/DATA-compare.
        say: Receives progress messages.
        **settings: Keyword arguments of `flowmaps.train` that all methods share: batch_size, lr, ema, clip, seed,
            precision, compile, progress_bar.

    Returns:
        The comparison, with its table.

    Raises:
        ValueError: Arguments do not fit together, name something unknown, or differ from the comparison in the folder.
        TypeError: A setting is unknown, or is not shared by all methods, or a value is of another type.
        FileExistsError: The folder holds something else.
    """
    check_settings("compare", settings, LEARNING)
    check_networks(network=network, output=output, width=width, depth=depth, labels=labels)
    check_settings_of_training(settings, steps, seconds, out)
    check_by_name(data_args=data_args)
    at_least(1, couplings=couplings)
    rows = rows_of([methods] if isinstance(methods, str) else methods)
    settings = {name: settings.get(name, usual) for name, usual in settings_of_training().items() if name in LEARNING}
    source = data_of(data, data_args)
    length = {name: value for name, value in length_of(steps, seconds, STEPS).items() if value is not None}
    networks = {"network": network, "width": width, "depth": depth, "output": output, "labels": labels}
    given = None if teacher is None else folder_of(teacher, "teacher")
    folder = Path(out or Path("runs") / f"{Path(source.name).name}-compare")
    work = ComparisonRuns(
        source, folder, length, networks | {"seed": settings["seed"]}, settings, given, couplings, say
    )
    work.check(rows)
    shared = {**networks, **settings, "couplings": couplings}
    _begin(folder, _settings(source, length, given, shared))
    result = ComparisonResult(folder, {})
    for document in work.documents(rows):
        result = ComparisonResult(folder, document)
        write_json(folder / "table.json", document)
        write_text(folder / "table.md", result.markdown)
    comparison_report(folder, dict(result.document), source)
    return result


def _settings(data: Data, length: Mapping[str, Any], teacher: Path | None, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that all methods of one table share, as JSON; further methods may be added later."""
    about = {name: getattr(data, name) for name in ("name", "shape", "recipe")}
    found = {"data": about, "length": dict(length), "teacher": teacher and str(teacher), **shared}
    del found["progress_bar"]
    return json.loads(json.dumps(fingerprint(found)))


def _begin(out: Path, now: dict[str, Any]) -> None:
    """Make the folder of a comparison, or check that it holds the same one.

    Raises:
        ValueError: It holds another comparison.
        FileExistsError: It holds something else.
    """
    path = out / "comparison.json"
    if not path.is_file():
        if out.exists() and any(out.iterdir()):
            raise FileExistsError(f"{out} exists and is no comparison: choose another folder (`out`)")
        out.mkdir(parents=True, exist_ok=True)
        return write_json(path, now)
    changed = list(differences(current(json.loads(path.read_text(encoding="utf-8"))), now, "comparison"))
    if changed:
        raise ValueError(
            f"the comparison in {out} has another configuration: {'; '.join(changed)}. "
            "Use its options, or choose another folder (`out`)"
        )
