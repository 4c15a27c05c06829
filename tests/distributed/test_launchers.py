"""The command line, started by torchrun and by accelerate."""

import os
import subprocess
import sys

import pytest

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.training import read_config, read_metrics

pytestmark = pytest.mark.slow

TRAIN = ["train", "two_moons", "--method", "shortcut", "--steps", "3", "--batch-size", "16", "--width", "8"]
QUIET = ["--depth", "1", "--log-every", "1", "--no-progress-bar", "--sample-every", "0", "--trackers"]
LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "flowmaps"],
    "accelerate": [
        *("accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1", "--dynamo_backend", "no"),
        *("--mixed_precision", "no", "--main_process_port", "0", "--multi_gpu", "-m", "flowmaps"),
    ],
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The losses of a single process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert main([*TRAIN, *QUIET, "--out", str(out)]) == 0
    return [row["loss"] for row in read_metrics(out)]


@pytest.mark.parametrize(("launcher", "options"), [("torchrun", ["--shard"]), ("accelerate", ["--accumulate", "2"])])
def test_started_by(launcher, options, alone, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *LAUNCHERS[launcher], *TRAIN, *options, "--out", str(tmp_path / "run"), *QUIET]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_config(tmp_path / "run")["processes"]["count"] == 2
    assert [row["loss"] for row in read_metrics(tmp_path / "run")] == pytest.approx(alone, rel=1e-4)  # float32
    assert all(weight.isfinite().all() for weight in fm.load(tmp_path / "run").parameters())
