"""An estimate: the cost of a recipe on so many GPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch._subclasses.fake_tensor import DataDependentOutputException

from ...data.core import at_least
from ...draws import Rows
from ..planned import Planned
from .counting import Cost, total_cost


@dataclass(frozen=True)
class Estimate:
    """What a recipe takes on each of `gpus`, each of which has its share of a batch in `accumulate` parts one after
    another.

    shard: weights, gradients, optimizer states, averages, targets and teachers are spread over the GPUs, and the
    weights gathered for each step; otherwise each GPU has all of them. cost: of one part of a step.
    """

    recipe: Planned
    gpus: int
    accumulate: int
    shard: bool
    cost: Cost

    @property
    def rows(self) -> int:
        """Rows that a GPU has at a time, at most."""
        return len(range(0, self.recipe.batch_size, self.gpus * self.accumulate))

    @property
    def flops(self) -> int:
        """Operations of one GPU in one step."""
        return self.accumulate * self.cost.flops

    @property
    def images(self) -> int:
        """Rows that training sees."""
        return self.recipe.steps * self.recipe.batch_size

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of each kind on one GPU in the backward pass, all activations and all gradients, which is a bound: as
        the ones come the others go. Beside them there are the buffers of single operations, the block of layers that
        is computed again where the network has checkpoints, the libraries, and what the allocator cannot use.
        """
        cost, share = self.cost, self.gpus if self.shard else 1
        whole = {"weights": cost.weights, "optimizer states": cost.optimizer, "average of the weights": cost.average}
        whole |= {"targets": cost.targets, "teachers": cost.teachers}
        found = {name: -(-size // share) for name, size in whole.items()}
        found["gradients"] = cost.gradients  # whole until the backward pass has ended, also where they are shared out
        if self.shard:
            found["gathered weights"] = cost.weights + cost.targets + cost.teachers
        found["activations"] = cost.activations
        return {name: size for name, size in found.items() if size}

    @property
    def total(self) -> int:
        """Bytes on one GPU."""
        return sum(self.memory.values())

    def hours(self, rate: float) -> float:
        """Training time where a GPU makes `rate` operations a second, in real steps and not at its peak. Raises
        ValueError for a rate that is not positive.
        """
        if not rate > 0:
            raise ValueError(f"the rate of a GPU must be positive, got {rate}")
        return self.recipe.steps * self.flops / rate / 3600

    @property
    def launch(self) -> dict[str, str]:
        """Command lines, by launcher."""
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
        """Everything but the hours, for JSON."""
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


def plan(recipe: Planned, *, gpus: int = 8, accumulate: int = 1, shard: bool = False) -> Estimate:
    """What a recipe takes. For another batch or method, `dataclasses.replace` what the recipe has.

    The loss and its backward pass run once on tensors without memory, on the rows of the first GPU, in eager mode and
    as on a CPU: a compiled step keeps less, and so do kernels of a GPU that store less.
    Raises ValueError for a batch with too few rows, and for a method that decides by its numbers, which there are none
    of (`cmt`).
    """
    at_least(1, gpus=gpus, accumulate=accumulate)
    try:
        cost = total_cost(recipe, Rows(0, gpus * accumulate, recipe.batch_size))
    except DataDependentOutputException as error:
        raise ValueError(f"{recipe.row.name} cannot be planned: it decides by numbers of the batch ({error})") from None
    return Estimate(recipe, gpus, accumulate, shard, cost)
