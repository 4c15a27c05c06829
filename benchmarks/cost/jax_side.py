"""JAX in a child process that answers one request at a time, so its steps run in turns with torch's."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.baselines import baseline
from benchmarks.cost.measure import Clock
from benchmarks.cost.networks import DEVICE, Setting

STEPS = ("flow_matching", "meanflow", "lsd")
ON_CPU = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu"}
ON_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def installed() -> bool:
    """Whether JAX is installed."""
    return importlib.util.find_spec("jax") is not None


class Child:
    """A JAX process with one network and its batch. `jax`: its version; `bytes`: planned bytes of each program."""

    def __init__(self, name: str, setting: Setting) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "given.npz"
            np.savez(path, **given(setting))
            command = [sys.executable, "-m", "benchmarks.cost.jax_child", name, str(path)]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            self.process = subprocess.Popen(
                command, env=os.environ | (ON_CPU if DEVICE.type == "cpu" else ON_GPU), **pipes
            )
            said = self._answer()
        self.jax, self.bytes = said["jax"], said["bytes"]

    def ask(self, request: str) -> float:
        """Ask for the seconds of a step or of the forward pass, or for the rate of a matrix product of a size."""
        self.process.stdin.write(f"{request}\n")
        self.process.stdin.flush()
        return self._answer()

    def clock(self, request: str) -> Clock:
        """The request as a clock."""
        return lambda: self.ask(request)

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the JAX process ended without an answer; its message is above")
        return json.loads(line)


@torch.no_grad()
def given(setting: Setting) -> dict[str, np.ndarray]:
    """Input of the child: weights in the layout of JAX, a batch, and the results of torch for it."""
    network, x0 = setting.network, setting.x0
    eps, s, t = baseline("lsd", network).draw(x0)
    found = {f"p:{name}": value for name, value in weights(network).items()}
    found |= {"x0": x0, "eps": eps, "s": s, "t": t, "output": network(x0, s, t)}
    drawn = {"flow_matching": (eps, s), "meanflow": (eps, s, t), "lsd": (eps, s, t)}
    for name, values in drawn.items():
        found[f"loss:{name}"] = baseline(name, network).loss(network, x0, *values)
    return {name: value.detach().cpu().numpy() for name, value in found.items()}


def weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights by name: linear layers as (in, out), convolutions as HWIO, and the positions of a DiT."""
    found = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear):
            found[f"{name}.weight"] = layer.weight.T
        if isinstance(layer, nn.Conv2d):
            found[f"{name}.weight"] = layer.weight.permute(2, 3, 1, 0)
    return found
