"""Everything about a GPU in one run of nine minutes:  python -m benchmarks.gpu [--minutes 9] [--out FOLDER]

- checks: every branch of the library for a GPU, with the number measured and its bound.
- images: a DiT trained on images; one jump against 100 Euler steps, beside the data floor, with pictures.
- steps: training steps of DiT-B/2 and DiT-XL/2 in bfloat16, eager, compiled and plain, over the matrix rate. They
  compile while the other stages run.
- processes: two processes on two GPUs train as one.

Each stage has its share of the minutes and a process of its own. A stage that fails, hangs or would pass the limit
leaves the others; its JSON says why. Results are written after every part: STAGE.json and STAGE.md in `--out`, and the
marks in marks.md. Without a GPU, --small rehearses all of it with tiny networks, into another folder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch

from benchmarks.cost import names
from benchmarks.cost.measure import Progress
from flowmaps.files import write_json

STAGES = {"checks": 90, "images": 250, "steps": 150, "processes": 40}
"""The stages in their order, with their seconds of nine minutes."""
MINUTES = 9.0
LEAST = 0.4
"""A stage is skipped if less than this share of its time is left."""
GRACE = 10
"""Seconds after which a stage that does not end is ended."""
RESULTS, REHEARSAL = Path("benchmarks/results/gpu"), Path("runs/gpu-rehearsal")


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all stages (default: 9)")
    parser.add_argument("--stages", type=names(list(STAGES)), default=list(STAGES))
    parser.add_argument("--small", action="store_true", help="tiny networks, also without a GPU")
    parser.add_argument("--out", type=Path, help=f"(default: {RESULTS}; with --small {REHEARSAL})")
    parser.add_argument("--commit", default="", help="for a copy without git: the commit to write into the results")
    parser.add_argument("--tables", action="store_true", help="only tables, from the results")
    options = parser.parse_args(arguments)
    if not (options.small or options.tables or torch.cuda.is_available()):
        parser.error("torch finds no CUDA device here; --small rehearses the benchmark on the CPU")
    options.out = options.out or (REHEARSAL if options.small else RESULTS)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages, then write the tables."""
    from benchmarks.gpu import report  # later, because its parts are programs of their own

    options, say = parsed(arguments), Progress()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.tables:
        run(options, say, partial(report.write, options.out))
    print(report.write(options.out))
    say("done")


def run(options: argparse.Namespace, say: Callable[[str], None], write: Callable[[], object]) -> None:
    """Run the chosen stages, each until its time is over; `steps` begins to compile at once.

    Args:
        options: The options of the program.
        say: Shows a message.
        write: Writes the tables; called after every stage.
    """
    end = time.monotonic() + 60 * options.minutes
    chosen = [name for name in STAGES if name in options.stages]
    early = {"steps": Stage("steps", options)} if "steps" in chosen else {}
    for name in chosen:
        share = STAGES[name] * options.minutes / MINUTES
        left = max(0.0, end - time.monotonic())
        if left <= LEAST * share:
            if name in early:
                early[name].kill()
            skipped(options, name, f"{left:.0f} s of {options.minutes:g} minutes are left, and it needs {share:.0f} s")
            say(f"{name}: skipped")
            write()
            continue
        say(f"{name}: {min(share, left):.0f} s")
        say(f"{name}: {(early.get(name) or Stage(name, options)).finish(min(share, left))}")
        write()


def skipped(options: argparse.Namespace, name: str, reason: str) -> None:
    """Write the result of a stage that was skipped."""
    path = options.out / f"{name}.json"
    remove(name, options.out)
    write_json(path, {"stage": name, "rehearsal": options.small, "skipped": reason, "found": {}})


def remove(name: str, out: Path) -> None:
    """Remove the result of an earlier run of a stage, with its table and its pictures."""
    for path in (out / f"{name}.json", out / f"{name}.md", *out.glob(f"{name}-*.png")):
        path.unlink(missing_ok=True)


def command_of(name: str, options: argparse.Namespace) -> list[str]:
    """The command of a stage."""
    size = "small" if options.small else "full"
    return [sys.executable, "-m", "benchmarks.gpu.stage", name, str(options.out), size, options.commit]


class Stage:
    """The process of a stage, which waits for its seconds.

    Args:
        name: The name of the stage.
        options: The options of the program.
    """

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        self.name, self.path = name, options.out / f"{name}.json"
        remove(name, options.out)
        self.log: IO[Any] = (options.out / f"{name}.log").open("w")
        self.process = subprocess.Popen(
            command_of(name, options), stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, text=True,
            start_new_session=True,
        )  # fmt: skip

    def finish(self, seconds: float) -> str:
        """Give the stage its seconds, and wait for its end; returns a word about it."""
        reason = ""
        try:
            self.process.communicate(f"{seconds}\n", timeout=seconds + GRACE)
        except subprocess.TimeoutExpired:
            reason = f"it passed its {seconds:.0f} s"
        except BrokenPipeError:
            pass
        self.kill()
        if not reason and self.process.returncode:
            lines = Path(self.log.name).read_text().strip().splitlines()
            reason = f"{lines[-1] if lines else 'no message'} (exit status {self.process.returncode})"
        return self._outcome(reason)

    def kill(self) -> None:
        """End the process and its children."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.log.close()

    def _outcome(self, reason: str) -> str:
        """Write into the result why the stage was ended, and say how it ended."""
        found: dict[str, Any] = {"stage": self.name, "found": {}}
        if self.path.exists():
            found = json.loads(self.path.read_text())
        if reason:
            found["failure"] = reason
            write_json(self.path, found)
        return f"skipped, {found['skipped']}" if "skipped" in found else str(found.get("failure", "complete"))
