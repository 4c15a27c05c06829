"""JAX in a child process that answers one request at a time, so its steps run in turns with torch's."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.baselines import baseline
from benchmarks.cost.child import Child
from benchmarks.cost.measure import Clock
from benchmarks.cost.networks import DEVICE, Setting

STEPS = ("flow_matching", "meanflow", "lsd")
ON_CPU = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu"}
ON_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}


def installed() -> bool:
    """Whether JAX is installed."""
    return importlib.util.find_spec("jax") is not None


class JaxChild(Child):
    """A JAX process with one network and its batch. `jax`: its version; `bytes`: planned bytes of each program."""

    def __init__(self, name: str, setting: Setting) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "given.npz"
            np.savez(path, **given(setting))
            command = [sys.executable, "-m", "benchmarks.cost.jax_child", name, str(path)]
            super().__init__(command, ON_CPU if DEVICE.type == "cpu" else ON_GPU)
        self.jax, self.bytes = self.said["jax"], self.said["bytes"]

    def clock(self, request: str) -> Clock:
        """The clock of a step, of the forward pass, or of the rate of a matrix product of a size."""
        return lambda: self.ask(request)


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
