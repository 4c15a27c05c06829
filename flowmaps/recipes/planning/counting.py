"""The operations of a training step and the memory that it holds, counted on tensors without memory."""

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
from ...training.optimizers import adamw, trained
from ...training.teachers import given_to
from ..planned import Planned

FUSED = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FUSED_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
MIDDLE = 0.5
"""The share of training that is done at the step that is counted: curricula are in full there."""


@dataclass(frozen=True)
class Cost:
    """What one process holds and does in one part of a step.

    parameters: numbers that are trained, those beside the flow included; frozen: those of the flow that are not. flops:
    operations in matrix products, convolutions and attention, of the loss and its backward pass. All else is bytes:
    weights of the flow, frozen ones included, and of what is trained beside it; gradients and optimizer for what is
    trained; average of the weights; targets, copies of the flow that it learns from; teachers that were given;
    activations, what the forward pass keeps for the backward pass. Frozen weights that several of these share are
    counted with the flow's weights alone.
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
    """Storages that a forward pass keeps for the backward pass, each once, but for those of `known` tensors."""

    known: set[int]
    storages: dict[int, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(storage.nbytes() for storage in self.storages.values())


@contextmanager
def kept_for_backward(known: Iterable[Tensor] = ()) -> Iterator[Kept]:
    """Count what operations inside a `with` block keep for their backward pass, weights and other `known` tensors
    apart. The storages are held until the result is dropped.
    """
    kept = Kept({key(tensor) for tensor in known})

    def pack(tensor: Tensor) -> Tensor:
        if key(tensor) not in kept.known:
            kept.storages[key(tensor)] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def counter() -> FlopCounterMode:
    """A context that counts the operations of matrix products, convolutions and attention, fused on the CPU too."""
    return FlopCounterMode(display=False, custom_mapping={FUSED: _attention, FUSED_BACKWARD: _attention_backward})


def cost_of(recipe: Planned, rows: Rows, *, progress: float = MIDDLE) -> Cost:
    """The cost of a part of a step of this recipe, which has `rows` of its batch. Nothing is allocated."""
    make = recipe.step(len(rows))
    with FakeTensorMode(allow_non_fake_inputs=True), large_blocks(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of training are said when it starts, the others are of the fake tensors
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
    """The same of a recipe as the sum of its parts."""
    counted = [(times, asdict(cost_of(part, rows))) for times, part in recipe.parts()]
    return Cost(**{name: sum(times * cost[name] for times, cost in counted) for name in counted[0][1]})


def apart(weights: Iterable[Tensor], others: Iterable[Tensor]) -> list[Tensor]:
    """Those of the weights that are none of the others, each once."""
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
    """Operations, and bytes kept for the backward pass, of a method's loss on a batch."""
    known = [
        *flow.parameters(),
        *method.parameters(),
        *(w for given in teachers_of(method) for w in given.parameters()),
    ]
    with counter() as operations:
        with kept_for_backward(known) as kept, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            method.follow(flow, progress, moved=False)
            drawn = method.draw(flow, x0, condition, progress=progress, rows=rows)
            loss = method.measure(flow, drawn, progress)
        loss.value.backward()
    return operations.get_total_flops(), kept.nbytes


@contextmanager
def large_blocks() -> Iterator[None]:
    """Attention under a derivative as on an accelerator, in large blocks: the same operations in fewer calls."""
    small = SCORES_PER_BLOCK.pop("cpu")
    try:
        yield
    finally:
        SCORES_PER_BLOCK["cpu"] = small


def optimizer_states(flow: FlowMap, method: Method, recipe: Planned) -> int:
    """Bytes that the optimizers keep once they have made a step."""
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
    """The models that a method was given, each once."""
    sources = (source for term in method.terms for source in (term.velocity, *term.sources.values()))
    given = (given_to(source) for source in sources)
    return list(dict.fromkeys(model for model in given if isinstance(model, nn.Module)))


def nbytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def key(tensor: Tensor) -> int:
    """The same for all views of a storage."""
    return tensor.untyped_storage()._cdata


def _attention(query: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, keys, values)


def _attention_backward(gradient: Any, query: Any, keys: Any, values: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(gradient, query, keys, values)
