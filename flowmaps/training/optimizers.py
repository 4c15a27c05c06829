"""Optimizers of the flow and of the auxiliary networks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..arguments import shown
from ..flow_map import FlowMap
from ..method.method import Method
from ..runs.fingerprint import fingerprint
from ..serialise import public_name
from ..velocity import MakeOptimizer
from .config import TrainConfig

HOW = ("foreach", "fused", "capturable", "differentiable")
"""Options of optimizers that do not change what they compute."""


@dataclass
class Group:
    """An optimizer with its weights.

    Attributes:
        weights: The weights.
        optimizer: The optimizer.
        rates: Initial learning rate of each parameter group; None if it has none, and so no schedule.
    """

    weights: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    rates: list[float | None]


class Optimizers:
    """One optimizer for the flow and the method's own weights, and one for each of `method.auxiliaries`.

    A single backward pass computes all gradients. Each optimizer clips and updates its own weights; all have the same
    schedule.

    Args:
        flow: The flow map in training.
        method: The method, with its own weights and its auxiliary networks.
        config: The settings of the run: `optimizer`, `lr`.

    Attributes:
        groups: The optimizers with their weights.
        options: Class and options of each optimizer, for config.json.

    Raises:
        ValueError: If no weight requires a gradient, or two optimizers would share a weight.
    """

    def __init__(self, flow: FlowMap, method: Method, config: TrainConfig) -> None:
        default = config.optimizer or adamw(config.lr)
        auxiliary = [(list(trained([part])), part.optimizer or default) for part in method.auxiliaries]
        known = {id(weight) for weights, _ in auxiliary for weight in weights}
        if sum(len(weights) for weights, _ in auxiliary) > len(known) or any(id(w) in known for w in flow.parameters()):
            raise ValueError("an auxiliary network shares a weight with the flow or another one: give it a copy")
        main = [weight for weight in trained([flow, method]) if id(weight) not in known]
        if not main:
            raise ValueError("nothing to train: no weight of the flow map or the method requires a gradient")
        self.groups = [group(main, default), *(group(weights, make) for weights, make in auxiliary if weights)]
        self.options = [options(part.optimizer) for part in self.groups]

    def prepare(self, accelerator: Accelerator) -> None:
        """Let the accelerator wrap every optimizer."""
        for part in self.groups:
            part.optimizer = accelerator.prepare_optimizer(part.optimizer)

    @property
    def lr(self) -> float:
        """Learning rate of the first parameter group of the flow; 0 if the optimizer has none."""
        return self.groups[0].optimizer.param_groups[0].get("lr", 0.0)

    def schedule(self, factor: float) -> None:
        """Set every learning rate to `factor` times its initial value."""
        for part in self.groups:
            for settings, rate in zip(part.optimizer.param_groups, part.rates, strict=True):
                if rate is not None:
                    settings["lr"] = rate * factor

    def zero_grad(self) -> None:
        """Clear all gradients."""
        for part in self.groups:
            part.optimizer.zero_grad()

    def step(self, accelerator: Accelerator, clip: float | None) -> None:
        """Clip the gradients, then update all weights that have one.

        Args:
            accelerator: The accelerator of the run, which clips sharded gradients too.
            clip: Largest gradient norm, for each optimizer. None: no clipping.
        """
        for part in self.groups:
            if all(weight.grad is None for weight in part.weights):
                continue  # it is the turn of other networks
            if clip is not None:
                accelerator.clip_grad_norm_(part.weights, clip)
            part.optimizer.step()

    def state_dicts(self) -> list[dict[str, Any]]:
        """Return the state dict of each optimizer, the flow's first, then the auxiliaries' in order."""
        return [part.optimizer.state_dict() for part in self.groups]

    def weights(self) -> list[list[nn.Parameter]]:
        """Return the weights of each optimizer, in the order in which its state dict numbers them."""
        return [[w for settings in part.optimizer.param_groups for w in settings["params"]] for part in self.groups]

    def state_tensors(self) -> Iterator[Tensor]:
        """Iterate over the tensors in the states of the optimizers, such as momenta."""
        entries = (entry for part in self.groups for entry in part.optimizer.state.values())
        return (value for entry in entries for value in entry.values() if isinstance(value, Tensor))

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Restore state dicts returned by `state_dicts`."""
        for part, state in zip(self.groups, states, strict=True):
            part.optimizer.load_state_dict(state)


def options(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Describe an optimizer by its class and the options of each group, such as lr, betas and weight decay.

    Options that change only how it is computed are left out: they depend on the device.
    """
    groups = [
        {name: fingerprint(value) for name, value in settings.items() if name not in ("params", *HOW)}
        for settings in optimizer.param_groups
    ]
    return {"type": public_name(type(optimizer)), "groups": groups}


def trained(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    """Iterate over the weights of modules that require a gradient."""
    return (weight for module in modules for weight in module.parameters() if weight.requires_grad)


def group(weights: list[nn.Parameter], make: MakeOptimizer) -> Group:
    """Create an optimizer of some weights.

    Raises:
        TypeError: If `make` makes no optimizer, or one that needs a closure.
    """
    optimizer = make(weights)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a function that makes a torch optimizer, and it made {shown(optimizer)}")
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if isinstance(optimizer, torch.optim.LBFGS) or (closure is not None and closure.default is closure.empty):
        raise TypeError(
            f"{type(optimizer).__name__} computes the loss several times a step (it needs a closure), but training "
            "computes it once: take another optimizer, such as torch.optim.AdamW"
        )
    if callable(begin := getattr(optimizer, "train", None)):
        begin()  # schedule-free optimizers refuse a step before it
    return Group(weights, optimizer, [settings.get("lr") for settings in optimizer.param_groups])


def adamw(lr: float) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Return a function that creates AdamW with betas (0.9, 0.95) and no weight decay."""

    def make(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        weights = list(weights)
        fused = all(weight.device.type in ("cpu", "cuda") and weight.is_floating_point() for weight in weights)
        return torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=fused)

    return make
