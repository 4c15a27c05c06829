"""Loads exported folders in a process that has no flowmaps, as their users do."""

import os
import subprocess
import sys
from pathlib import Path

import torch

SCRIPT = """
import sys

class NoFlowmaps:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "flowmaps":
            raise ImportError("flowmaps is not installed here")

sys.meta_path.insert(0, NoFlowmaps())
import torch
from diffusers import DiffusionPipeline, FlowMapEulerDiscreteScheduler

torch.set_num_threads(1)
results, loaded = [], {}
for folder, call in torch.load("calls.pt"):
    if folder not in loaded:
        loaded[folder] = DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
        loaded[folder].set_progress_bar_config(disable=True)
        assert isinstance(loaded[folder].scheduler, FlowMapEulerDiscreteScheduler)
    if "seed" in call:
        call["generator"] = torch.Generator().manual_seed(call.pop("seed"))
    try:
        result = loaded[folder](**call)
        results.append(getattr(result, "images", getattr(result, "frames", None)))
    except Exception as error:
        results.append(f"{type(error).__name__}: {error}")
torch.save(results, "results.pt")
"""


def sampled(calls, folder):
    """What pipelines return: calls are pairs (the folder of a pipeline, arguments, with
    `seed` for a generator); an error comes back as its text."""
    folder = Path(folder)
    torch.save([(str(where), arguments) for where, arguments in calls], folder / "calls.pt")
    environment = {**os.environ, "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "results.pt", weights_only=False)


def assert_same(got, expected, atol=1e-5):
    """Tensors; an error in the place of one is shown."""
    assert isinstance(got, torch.Tensor), got
    torch.testing.assert_close(got, expected, atol=atol, rtol=atol)
