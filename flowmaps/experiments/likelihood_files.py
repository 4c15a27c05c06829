"""The record of log-densities in the run folder, with its histogram."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from ..figures.densities import densities
from ..runs.likelihood_record import KEPT, PICTURE, RECORD, write_likelihood_record
from .likelihood_table import LikelihoodTable
from .run_folder import LIKELIHOOD, lock
from .trained_run import Say


def keep(run: Path, result: LikelihoodTable, command: str | None, say: Say) -> None:
    """Keep the numbers and the log-densities in the run folder, for its report, with their histogram.

    Args:
        run: The run folder.
        result: The numbers and the log-densities.
        command: The command line.
        say: Receives a line if they cannot be kept.
    """
    values = {by: {kind: _kept(one) for kind, one in kinds.items()} for by, kinds in result.values.items()}
    record = {
        "step": result.step, "data": result.data, "levels": result.levels, "quantity": result.quantity,
        "rows": [asdict(row) for row in result.rows], "values": values, "accuracy": dict(result.accuracy),
        "notes": list(result.notes), "command": command,
    }  # fmt: skip
    try:
        with lock(run, "keeping log-densities", LIKELIHOOD, RECORD, PICTURE):
            densities(values, name=result.quantity, path=run / PICTURE)
            write_likelihood_record(run, record)
    except OSError as error:
        say(f"The record of these log-densities cannot be kept with the run: {error}")


def _kept(values: Tensor) -> list[float]:
    """The first log-densities, without rows that have none, in six digits."""
    return [float(f"{value:.6g}") for value in values[:KEPT].tolist() if not math.isnan(value)]
