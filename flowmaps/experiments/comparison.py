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
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..arguments import at_least
from ..arguments import given as optional
from ..data import Data
from ..figures import comparison
from ..figures.words import markdown_table
from ..files import LOCK, is_leftover, json_checksum, read_json, write_json, write_text
from ..recipes.rows import MethodLike, rows_of
from ..runs.checkpoint import latest
from ..runs.contents import contents
from ..runs.fingerprint import fingerprint, short
from ..runs.folder import versions
from ..runs.lock import check_free
from ..runs.resuming import compare as compared
from ..serialise import current
from ..training.config import SIDE
from .build import NetworkName, OutputName
from .checks import check_by_name, check_networks, check_settings_of_training, folder_of
from .comparison_runs import ComparisonRuns
from .evaluation import CLASSIFIER
from .reporting import PAGE, comparison_report
from .run_data import with_classes_of
from .run_folder import folder_for, lock
from .sizing import sized
from .trained_run import (
    LEARNING,
    Say,
    TrainedRun,
    check_settings,
    data_of,
    device,
    rows_in_units,
    settings_of_training,
    silent,
)
from .training_setup import COUPLINGS, STEPS, length_of

SETTINGS = "comparison.json"
"""File with the configuration."""
WRITTEN = ("*.json", "table.md", PAGE, CLASSIFIER)
"""Patterns of the files in the folder of a comparison."""
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
    methods: Sequence[MethodLike] | Mapping[str, MethodLike] = METHODS,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    network: NetworkName = "auto",
    width: int | None = None,
    depth: int | None = None,
    batch_size: int | None = None,
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
        methods: Names of methods, their functions (also your own), or methods themselves; or any of these by name, such
            as {"half": fm.methods.lsd(diagonal=0.5)}. Methods are copied, not changed.
        steps: Training steps of each method. None: 5000, unless `seconds` is given.
        seconds: Processor time of each method, the sum over the threads of this process, instead of `steps`. On a GPU:
            the time that passes. Such runs do not give the same numbers twice.
        network: As for `train`.
        width: As for `train`.
        depth: As for `train`.
        batch_size: As for `train`.
        output: As for `train`.
        labels: As for `train`.
        data_args: Options of a data set that is given by name.
        couplings: Number of couplings, for methods that train on couplings.
        teacher: Run folder of the model that distillation methods learn from and that makes couplings. None: one is
            trained.
        out: Folder of the comparison. None: runs/DATA-compare, with a number if that is another comparison, or one
            in progress.
        say: Receives progress messages.
        **settings: Keyword arguments of `flowmaps.train` that all methods share: lr, ema, clip, seed,
            precision, compile, device, progress_bar.

    Returns:
        The comparison, with its table.

    Raises:
        ValueError: Arguments do not fit together, name something unknown, or differ from the comparison in the folder.
        TypeError: A setting is unknown, or is not shared by all methods, or a value is of another type.
        BlockingIOError: Another process compares methods in the folder.
        FileExistsError: The folder holds something else.
    """
    check_settings("compare", settings, LEARNING)
    at_least(1, **optional(batch_size=batch_size))
    check_networks(network=network, output=output, width=width, depth=depth, labels=labels)
    check_settings_of_training(settings, steps, seconds, out)
    check_by_name(data_args=data_args)
    at_least(1, couplings=couplings)
    rows = rows_of([methods] if isinstance(methods, str) else methods)
    source = data_of(data, data_args)
    length = length_of(steps, seconds, STEPS)
    sizes = {"width": width, "depth": depth, "batch_size": batch_size}
    before = _settings_before(out)
    sizes = sized(source, sizes, network=network, before=before, say=say, where=settings.get("device"), **length)
    settings["batch_size"] = sizes.pop("batch_size")
    settings = {name: settings.get(name, usual) for name, usual in settings_of_training().items() if name in LEARNING}
    length = {name: value for name, value in length.items() if value is not None}
    length |= _clock(length, before, settings["device"])
    networks = {"network": network, **sizes, "output": output, "labels": labels}
    given = None if teacher is None else folder_of(teacher, "teacher")
    source = source if given is None else with_classes_of(given, source)
    now = _settings(source, length, given, {**networks, **settings, "couplings": couplings})
    with folder_for(out, f"{Path(source.name).name}-compare", settings, lambda path: _is_same(path, now)) as folder:
        source = rows_in_units(source, [given], next(iter(sorted(folder.glob("*/config.json"))), folder).parent)
        work = ComparisonRuns(
            source, folder, length, networks | {"seed": settings["seed"]}, settings, given, couplings, say
        )
        work.check(rows)
        _refuse_other(folder, now)
        with lock(folder, "comparing methods in it", LOCK, *WRITTEN):
            _begin(folder, now)
            result = ComparisonResult(folder, {})
            for document in work.documents(rows):
                result = ComparisonResult(folder, document)
                write_json(folder / "table.json", document)
                write_text(folder / "table.md", result.markdown)
            comparison_report(folder, dict(result.document), source)
    return result


def _settings(data: Data, length: Mapping[str, Any], teacher: Path | None, shared: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that all methods of one table share, as JSON; further methods may be added later."""
    about = {name: getattr(data, name) for name in ("name", "shape", "recipe")} | {"contents": contents(data)}
    shared = {name: value for name, value in shared.items() if name not in SIDE}
    found = {"data": about, "length": dict(length), "teacher": teacher and str(teacher), **shared}
    if teacher is not None and (checkpoint := latest(teacher / "checkpoints", ("ema",))) is not None:
        found["weights_sha256"] = short(json_checksum(checkpoint[1]["files"]))
    return json.loads(json.dumps(fingerprint(found) | {"fingerprint": "samples", "versions": versions()}))


def _clock(length: Mapping[str, Any], before: Mapping[str, Any] | None, where: Any) -> dict[str, str]:
    """The clock of a time budget: processor time, but not on a GPU, nor in a comparison of an earlier version."""
    earlier = before is not None and before.get("length") == length
    return {"clock": "processor"} if "seconds" in length and device(where).startswith("cpu") and not earlier else {}


def _settings_before(out: str | Path | None) -> dict[str, Any] | None:
    """The settings of the comparison in a folder; None without one."""
    if out is None or not (Path(out) / SETTINGS).is_file():
        return None
    return dict(read_json(Path(out) / SETTINGS))


def _is_same(out: Path, now: dict[str, Any]) -> bool:
    """Whether a folder holds the same comparison, which is not in progress."""
    try:
        _refuse_other(out, now)
        check_free(out)
    except (ValueError, OSError):
        return False
    return (out / SETTINGS).is_file()


def _begin(out: Path, now: dict[str, Any]) -> None:
    """Write the configuration of a comparison, or check that the folder holds the same one, as `_refuse_other`."""
    _refuse_other(out, now)
    if not (out / SETTINGS).is_file():
        write_json(out / SETTINGS, now)


def _refuse_other(out: Path, now: dict[str, Any]) -> None:
    """Check that a folder is empty, or holds the same comparison.

    Raises:
        ValueError: It holds another comparison.
        FileExistsError: It holds something else.
    """
    path = out / SETTINGS
    if not path.is_file():
        if out.exists() and not all(item.name == LOCK or is_leftover(item, LOCK, SETTINGS) for item in out.iterdir()):
            raise FileExistsError(f"{out} exists and is no comparison: choose another folder (`out`)")
        return
    changed, said, _ = compared(_apart(current(read_json(path))), _apart(now), ("comparison",))
    if said:
        warnings.warn(f"the comparison in {out} goes on although this has changed: {'; '.join(said)}", stacklevel=3)
    if changed:
        raise ValueError(
            f"the comparison in {out} has another configuration: {'; '.join(changed)}. "
            "Use its options, or choose another folder (`out`)"
        )


def _apart(found: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a comparison, beside the way in which contents are compared and the versions."""
    beside = {name: found[name] for name in ("fingerprint", "versions") if name in found}
    return {"comparison": {name: value for name, value in found.items() if name not in beside}, **beside}
