"""Counting the operations and the memory of a training step on tensors without memory."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from ...draws import Rows
from ...flow_map import FlowMap
from ...forward_mode import SCORES_PER_BLOCK
from ...method.method import Method
from ...method.turns import Turns
from ...training.optimizers import adamw, trained
from ...training.teachers import teachers
from ..planned import Planned

FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FUSED_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
MIDDLE = 0.5
"""Progress of training at which the step is counted; curricula are fully active there."""


@dataclass(frozen=True)
class Cost:
    """The cost of one part of a step on one process. Shared frozen weights are counted once, with the flow map.

    Args:
        parameters: Number of trained parameters, including auxiliary networks.
        frozen: Number of frozen parameters of the flow map.
        flops: Operations of the loss and its backward pass in matrix products, convolutions and attention.
        weights: Bytes of the weights of the flow map and of trained auxiliary networks.
        gradients: Bytes of the gradients.
        optimizer: Bytes of the optimizer states.
        average: Bytes of the average of the weights.
        targets: Bytes of target networks, which are copies of the flow map.
        teachers: Bytes of the teachers.
        activations: Bytes that the forward pass stores for the backward pass.
    """

    parameters: int
    frozen: int
    flops: int
    weights: int
    gradients: int
    optimizer: int
    average: int
    targets: int
    teachers: int
    activations: int


@dataclass
class Kept:
    """Storages that a forward pass keeps for the backward pass, each once.

    Args:
        known: Keys of the storages that are not counted.
        storages: Counted storages by key.
    """

    known: set[int]
    storages: dict[int, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the storages."""
        return sum(storage.nbytes() for storage in self.storages.values())


@contextmanager
def kept_for_backward(known: Iterable[Tensor] = ()) -> Iterator[Kept]:
    """Count the storages that operations inside a `with` block keep for their backward pass.

    Args:
        known: Tensors that are not counted, such as weights.

    Yields:
        The count, which holds the storages until it is dropped.
    """
    kept = Kept({key(tensor) for tensor in known})

    def pack(tensor: Tensor) -> Tensor:
        if key(tensor) not in kept.known:
            kept.storages[key(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def counter() -> FlopCounterMode:
    """Make a context that counts operations of matrix products, convolutions and attention, also fused on a CPU."""
    return FlopCounterMode(display=False, custom_mapping={FUSED: _attention, FUSED_BACKWARD: _attention_backward})


def cost_of(recipe: Planned, rows: Rows, *, progress: float = MIDDLE) -> Cost:
    """Count the cost of a part of a training step. Nothing is allocated.

    Args:
        recipe: The recipe.
        rows: Rows of the batch in this part.
        progress: Progress of training in [0, 1].

    Returns:
        The cost.
    """
    make = recipe.step(len(rows))
    with FakeTensorMode(allow_non_fake_inputs=True), large_blocks(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # training repeats its own when it starts; the others come from fake tensors
        flow, method, x0, condition = make()
        method.begin(flow)
        flops, activations = loss_and_backward(flow, method, x0, condition, rows, recipe.precision, progress)
        weights, of_flow = list(trained([flow, method])), list(flow.parameters())
        targets = [weight for weight in apart(method.parameters(), of_flow) if not weight.requires_grad]
        given = (weight for teacher in teachers_of(method) for weight in teacher.parameters())
        return Cost(
            parameters=sum(weight.numel() for weight in weights),
            frozen=sum(weight.numel() for weight in of_flow if not weight.requires_grad),
            flops=flops,
            weights=nbytes([*of_flow, *apart(weights, of_flow), *flow.buffers()]),
            gradients=nbytes(weight.grad for weight in weights if weight.grad is not None),
            optimizer=optimizer_states(flow, method, recipe),
            average=nbytes([*trained([flow]), *flow.buffers()]),
            targets=nbytes(targets),
            teachers=nbytes(apart(given, [*of_flow, *targets])),
            activations=activations,
        )


def total_cost(recipe: Planned, rows: Rows) -> Cost:
    """Count the cost of a recipe as the sum over its parts (`Planned.parts`)."""
    counted = [(times, asdict(cost_of(part, rows))) for times, part in recipe.parts()]
    return Cost(**{name: sum(times * cost[name] for times, cost in counted) for name in counted[0][1]})


def apart(weights: Iterable[Tensor], others: Iterable[Tensor]) -> list[Tensor]:
    """The weights that are not among the others, each once."""
    known = {id(other) for other in others}
    return [weight for key, weight in {id(weight): weight for weight in weights}.items() if key not in known]


def loss_and_backward(
    flow: FlowMap,
    method: Method,
    x0: Tensor,
    condition: Tensor | Mapping[str, Any] | None,
    rows: Rows,
    precision: str = "no",
    progress: float = MIDDLE,
) -> tuple[int, int]:
    """Count the loss of a method and its backward pass on a batch.

    Args:
        flow: The flow map.
        method: The method.
        x0: Rows (B, *shape).
        condition: Condition, as for `Method.draw`.
        rows: Rows of the whole batch that these are.
        precision: "no" or "bf16".
        progress: Progress of training in [0, 1].

    Returns:
        Number of operations, and of bytes kept for the backward pass. For turns the mean of a cycle, and the largest.
    """
    known = [
        *flow.parameters(),
        *method.parameters(),
        *(w for given in teachers_of(method) for w in given.parameters()),
    ]
    if isinstance(method, Turns):
        method.follow(flow, progress, moved=False)
        turns = [loss_and_backward(flow, one, x0, condition, rows, precision, progress) for one in method.methods]
        mean = sum(share * flops for share, (flops, _) in zip(method.shares, turns, strict=True))
        return round(mean), max(kept for _, kept in turns)
    with counter() as operations:
        with kept_for_backward(known) as kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            method.follow(flow, progress, moved=False)
            drawn = method.draw(flow, x0, condition, progress=progress, rows=rows)
            loss = method.measure(flow, drawn, progress)
        loss.value.backward()
    return operations.get_total_flops(), kept.nbytes


@contextmanager
def large_blocks() -> Iterator[None]:
    """Use the large attention blocks of an accelerator: the same operations in fewer calls."""
    small = SCORES_PER_BLOCK.pop("cpu")
    try:
        yield
    finally:
        SCORES_PER_BLOCK["cpu"] = small


def optimizer_states(flow: FlowMap, method: Method, recipe: Planned) -> int:
    """Number of bytes of the optimizer states after one step."""
    make = recipe.settings()["optimizer"] or adamw(recipe.lr)
    beside = {id(weight): part for part in method.auxiliaries for weight in trained([part])}
    groups = [([weight for weight in trained([flow, method]) if id(weight) not in beside], make)]
    groups += [(list(trained([part])), part.optimizer or make) for part in method.auxiliaries]
    total = 0
    for weights, optimizer_of in groups:
        optimizer = optimizer_of(weights)
        optimizer.step()
        total += nbytes(v for state in optimizer.state.values() for v in state.values() if isinstance(v, Tensor))
    return total


def teachers_of(method: Method) -> list[nn.Module]:
    """The teachers of a method that are modules, each once."""
    return list(dict.fromkeys(teachers(method)))


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Number of bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def key(tensor: Tensor) -> int:
    """Identity of a tensor's storage, the same for all its views."""
    return tensor.untyped_storage()._cdata


def _attention(query: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> int:
    """Operations of fused attention, from the shapes of its inputs."""
    return sdpa_flop_count(query, keys, values)


def _attention_backward(gradient: Any, query: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> int:
    """Operations of the backward pass of fused attention."""
    return sdpa_backward_flop_count(gradient, query, keys, values)
