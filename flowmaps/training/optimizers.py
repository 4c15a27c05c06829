"""The flow's optimizer, and one for each network that is trained beside the flow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ..flow_map import FlowMap
from ..method.method import Method
from ..velocity import MakeOptimizer
from .config import TrainConfig


@dataclass
class Group:
    """An optimizer, the weights that it moves, and the learning rates it was made with."""

    weights: list[nn.Parameter]
    optimizer: torch.optim.Optimizer
    rates: list[float]


class Optimizers:
    """One optimizer for the flow with the method's own weights, and one for each of `method.auxiliaries`.

    A single backward pass gives all gradients; each optimizer clips and moves the weights that are its own. All follow
    the same schedule.

    Args:
        flow: The flow map in training.
        method: The method, with its own weights and its auxiliary networks.
        config: The settings of the run: `optimizer`, `lr`.

    Raises:
        ValueError: If no weight requires a gradient, and for a weight that two optimizers would move.
    """

    def __init__(self, flow: FlowMap, method: Method, config: TrainConfig) -> None:
        ordinary = config.optimizer or adamw(config.lr)
        beside = [(list(trained([part])), part.optimizer or ordinary) for part in method.auxiliaries]
        apart = {id(weight) for weights, _ in beside for weight in weights}
        if sum(len(weights) for weights, _ in beside) > len(apart) or any(id(w) in apart for w in flow.parameters()):
            raise ValueError("an auxiliary network shares a weight with the flow or another one: give it a copy")
        main = [weight for weight in trained([flow, method]) if id(weight) not in apart]
        if not main:
            raise ValueError("there is nothing to train: no weight of the flow map or the method requires a gradient")
        self.groups = [group(main, ordinary), *(group(weights, make) for weights, make in beside if weights)]

    def prepare(self, accelerator: Accelerator) -> None:
        """Let the accelerator wrap every optimizer."""
        for part in self.groups:
            part.optimizer = accelerator.prepare_optimizer(part.optimizer)

    @property
    def lr(self) -> float:
        """Learning rate of the flow's first group of weights."""
        return self.groups[0].optimizer.param_groups[0]["lr"]

    def schedule(self, factor: float) -> None:
        """Set every learning rate to `factor` times its first value."""
        for part in self.groups:
            for settings, rate in zip(part.optimizer.param_groups, part.rates, strict=True):
                settings["lr"] = rate * factor

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.groups:
            part.optimizer.zero_grad()

    def step(self, accelerator: Accelerator, clip: float | None) -> None:
        """Clip the gradients, then move all weights.

        Args:
            accelerator: The accelerator of the run, which knows the shares of a gradient on other processes.
            clip: Largest norm of each optimizer's gradient. None: no clipping.
        """
        for part in self.groups:
            if clip is not None:
                accelerator.clip_grad_norm_(part.weights, clip)
            part.optimizer.step()

    def state_dicts(self) -> list[dict[str, Any]]:
        """The state dicts: the flow's optimizer first, then the auxiliaries in their order."""
        return [part.optimizer.state_dict() for part in self.groups]

    def weights(self) -> list[list[nn.Parameter]]:
        """The weights of each optimizer, in the order of its groups, by which its state dict numbers them."""
        return [[w for settings in part.optimizer.param_groups for w in settings["params"]] for part in self.groups]

    def memory(self) -> Iterator[Tensor]:
        """The tensors in the states of the optimizers: momentum, mean squares."""
        entries = (entry for part in self.groups for entry in part.optimizer.state.values())
        return (value for entry in entries for value in entry.values() if isinstance(value, Tensor))

    def load_state_dicts(self, states: list[dict[str, Any]]) -> None:
        """Restore the state dicts that `state_dicts` returned."""
        for part, state in zip(self.groups, states, strict=True):
            part.optimizer.load_state_dict(state)


def trained(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    """The weights that require a gradient."""
    return (weight for module in modules for weight in module.parameters() if weight.requires_grad)


def group(weights: list[nn.Parameter], make: MakeOptimizer) -> Group:
    """Make an optimizer of some weights."""
    optimizer = make(weights)
    return Group(weights, optimizer, [settings["lr"] for settings in optimizer.param_groups])


def adamw(lr: float) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """AdamW with betas (0.9, 0.95) and no weight decay, as a function from weights to an optimizer."""

    def make(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        weights = list(weights)
        fused = all(weight.device.type in ("cpu", "cuda") for weight in weights)
        return torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=fused)

    return make
