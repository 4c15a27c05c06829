"""The estimate: the cost of a recipe on a number of GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch._subclasses.fake_tensor import DataDependentOutputException

from ...arguments import at_least
from ...draws import Rows
from ..planned import Planned
from .counting import Cost, total_cost


@dataclass(frozen=True)
class CostEstimate:
    """The cost of a recipe on each GPU.

    Args:
        recipe: The recipe.
        gpus: Number of GPUs, which share each batch.
        accumulate: Number of parts in which a GPU processes its share.
        shard: Whether weights, gradients, optimizer states, averages, targets and teachers are sharded over the GPUs.
            The weights are gathered for each step.
        cost: Cost of one part of a step.
    """

    recipe: Planned
    gpus: int
    accumulate: int
    shard: bool
    cost: Cost

    @property
    def rows(self) -> int:
        """Largest number of rows that a GPU processes at once."""
        return len(range(0, self.recipe.batch_size, self.gpus * self.accumulate))

    @property
    def flops(self) -> int:
        """Number of operations of one GPU in one step."""
        return self.accumulate * self.cost.flops

    @property
    def images(self) -> int:
        """Number of rows in training."""
        return self.recipe.steps * self.recipe.batch_size

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of each kind on one GPU in the backward pass.

        This is a bound, with all activations and all gradients, although activations are freed as gradients are
        computed. It does not include buffers of single operations, the block that activation checkpointing computes
        again, libraries, and fragmentation of the allocator.
        """
        cost, share = self.cost, self.gpus if self.shard else 1
        whole = {"weights": cost.weights, "optimizer states": cost.optimizer, "average of the weights": cost.average}
        whole |= {"targets": cost.targets, "teachers": cost.teachers}
        found = {name: -(-size // share) for name, size in whole.items()}
        found["gradients"] = cost.gradients  # complete until the backward pass has ended, even when sharded
        if self.shard:
            found["gathered weights"] = cost.weights + cost.targets + cost.teachers
        found["activations"] = cost.activations
        return {name: size for name, size in found.items() if size}

    @property
    def total(self) -> int:
        """Number of bytes on one GPU."""
        return sum(self.memory.values())

    def hours(self, rate: float) -> float:
        """Training time in hours.

        Args:
            rate: Operations per second of one GPU in real steps, which is below its peak.

        Returns:
            The time in hours.

        Raises:
            ValueError: The rate is not positive.
        """
        if not rate > 0:
            raise ValueError(f"the rate of a GPU must be positive, got {rate}")
        return self.recipe.steps * self.flops / rate / 3600

    @property
    def launch(self) -> dict[str, str]:
        """Command lines by launcher."""
        run = f"-m flowmaps {self.recipe.command}"
        run += " --shard" if self.shard else ""
        run += f" --accumulate {self.accumulate}" if self.accumulate > 1 else ""
        run += f" --out runs/{self.recipe.name}"
        torchrun = {"torchrun": f"torchrun --standalone --nproc_per_node {self.gpus} {run}"}
        return (
            torchrun
            if self.shard
            else {"accelerate": f"accelerate launch --num_processes {self.gpus} {run}", **torchrun}
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything except the hours, for JSON."""
        recipe = self.recipe
        return {
            "recipe": recipe.name,
            "method": recipe.row.name,
            "parameters": self.cost.parameters,
            "frozen": self.cost.frozen,
            "gpus": self.gpus,
            "shard": self.shard,
            "batch_size": recipe.batch_size,
            "accumulate": self.accumulate,
            "rows_per_gpu": self.rows,
            "precision": recipe.precision,
            "checkpoint": recipe.checkpoint,
            "memory": self.memory,
            "memory_total": self.total,
            "flops_per_gpu_and_step": self.flops,
            "steps": recipe.steps,
            "images": self.images,
            "launch": self.launch,
        }


def plan(recipe: Planned, *, gpus: int = 8, accumulate: int = 1, shard: bool = False) -> CostEstimate:
    """CostEstimate the cost of a recipe.

    The loss and its backward pass run once on tensors without memory, for the rows of the first GPU, in eager mode and
    as on a CPU. A compiled step, or GPU kernels that store less, need less memory.

    Args:
        recipe: The recipe; `dataclasses.replace` changes its batch or method.
        gpus: Number of GPUs.
        accumulate: Number of parts in which a GPU processes its share of a batch.
        shard: Whether weights, gradients and states are sharded over the GPUs.

    Returns:
        The estimate.

    Raises:
        ValueError: The batch has too few rows, or the method depends on the values of the batch (`cmt`).
    """
    at_least(1, gpus=gpus, accumulate=accumulate)
    try:
        cost = total_cost(recipe, Rows(0, gpus * accumulate, recipe.batch_size))
    except DataDependentOutputException as error:
        raise ValueError(f"{recipe.row.name} cannot be planned: it decides by numbers of the batch ({error})") from None
    return CostEstimate(recipe, gpus, accumulate, shard, cost)
