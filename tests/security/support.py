"""Ways to use a run folder, and the changes that a stranger makes to it."""

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import flowmaps as fm
from flowmaps.cli import main

SMALL = {"n": 32, "draws": 2, "jumps": (1,), "ode_steps": (2,)}


@dataclass(frozen=True)
class Stranger:
    """A run folder of a stranger.

    Args:
        run: The folder.
        marker: A file that is written if code of the stranger runs.
    """

    run: Path
    marker: Path

    @property
    def config(self):
        """The content of config.json without its checksum, which any stranger can remove."""
        config = json.loads((self.run / "config.json").read_text())
        config.pop("checksum", None)
        return config

    def put(self, place, value):
        """Replace an entry of config.json, given by its keys."""
        config = at = self.config
        for key in place[:-1]:
            at = at[key]
        at[place[-1]] = value
        (self.run / "config.json").write_text(json.dumps(config))

    def message(self, way):
        """The one line that a way to use the run ends with."""
        try:
            WAYS[way](self.run, self.run.parent / "out")
        except (ValueError, OSError) as error:
            return str(error)
        raise AssertionError(f"{way} took the run")


class Refused(ValueError):
    """The line that the command line printed."""


def shell(capture):
    """A command with a run folder, which must end with the status 2 and one line."""

    def run(folder, out):
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(capture(str(folder), str(out)))
        if status == 0:
            return
        text = said.getvalue()
        *before, last = text.splitlines()
        assert status == 2 and last.startswith("error: ") and all(line.startswith("Measuring ") for line in before), (
            text
        )
        raise Refused(last.removeprefix("error: "))

    return run


def bright(x0):
    """A reward of a person at the command line."""
    return x0.flatten(1).sum(1)


TRAINING = {"steps": 1, "progress_bar": False, "trackers": (), "sample_every": 0}
WAYS = {
    "load": lambda run, out: fm.load(run),
    "sample": lambda run, out: fm.experiments.sample(run, n=4),
    "steer": lambda run, out: fm.experiments.steer(run, reward=bright, steps=2, particles=4),
    "likelihood": lambda run, out: fm.experiments.likelihood(run, by="bound:2", n=4),
    "evaluate": lambda run, out: fm.experiments.evaluate(run, **SMALL),
    "report": lambda run, out: fm.experiments.report(run, **SMALL),
    "export": lambda run, out: fm.experiments.export(run, out),
    "to_diffusers": lambda run, out: fm.export.to_diffusers(run, out),
    "to_onnx": lambda run, out: fm.experiments.export(run, out, onnx=True, program=True),
    "train --teacher": lambda run, out: fm.experiments.train(
        "two_moons", method="lmd", teacher=run, out=out, **TRAINING
    ),
    "train --start": lambda run, out: fm.experiments.train("two_moons", method="imf", start=run, out=out, **TRAINING),
    "distill": lambda run, out: fm.experiments.distill(run, method="ayf_emd", out=out, **TRAINING),
    "distill --dry-run": lambda run, out: fm.experiments.distill(run, method="ayf_emd", dry_run=True),
    "compare --teacher": lambda run, out: fm.experiments.compare(
        "two_moons", ["lmd"], data_args={"labels": True}, teacher=run, out=out, steps=1, progress_bar=False
    ),
    "$ sample": shell(lambda run, out: ["sample", run, "-n", "4", "-o", f"{out}.npy"]),
    "$ sample --reward": shell(lambda run, out: ["sample", run, "--reward", f"{__name__}:bright", "-o", f"{out}.npy"]),
    "$ evaluate": shell(lambda run, out: ["evaluate", run]),
    "$ likelihood": shell(lambda run, out: ["likelihood", run, "--by", "bound:2", "-n", "4"]),
    "$ report": shell(lambda run, out: ["report", run]),
    "$ export": shell(lambda run, out: ["export", run, out]),
    "$ train --teacher": shell(
        lambda run, out: ["train", "two_moons", "--method", "lmd", "--teacher", run, "--out", out, "--steps", "1"]
    ),
    "$ distill": shell(lambda run, out: ["distill", run, "--method", "ayf_emd", "--out", out, "--steps", "1"]),
}
"""Ways to use a run folder; those with "$" are commands."""
