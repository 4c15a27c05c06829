"""A head on a backbone: a network of one frame whose contexts are computed from the whole past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import brief_repr, truth
from ..serialise import describable


@dataclass(frozen=True)
class Past:
    """Whole sequences as one condition of many frames.

    Attributes:
        frames: the sequences (B, T, C).
        condition: conditions of the backbone, with B rows.
    """

    frames: Tensor
    condition: Mapping[str, Any] = field(default_factory=dict)

    __repr__ = brief_repr


def has_backbone(network: Any) -> bool:
    """Whether a network is a head on a backbone, perhaps with guided contexts or an adapter around it."""
    return hasattr(network, "begin") and hasattr(network, "next")


@describable
class WithBackbone(nn.Module):
    """A head and a backbone as the network of a flow map of frames: network(x, s, t, context).

    Its conditions are the past frames of whole sequences and the number of each frame, and it computes their contexts
    once (`prepare`), with gradient, however often the head is called after that. `fm.Autoregressive` makes one.

    Args:
        head: called as head(x, s, t, context=z) on frames x (B, C) with contexts z (B, D), such as `networks.Head`.
        backbone: contexts (B, T, D) of sequences (B, T, C), such as `networks.CausalTransformer`.
        ends: whether a linear layer predicts from the context that a frame is the last one.

    Raises:
        TypeError: the backbone lacks a method, or does not say the size of its contexts, which `ends` needs.
    """

    def __init__(self, head: nn.Module, backbone: nn.Module, ends: bool = False) -> None:
        super().__init__()
        truth(ends=ends)
        for name in ("begin", "next"):
            if not callable(getattr(backbone, name, None)):
                raise TypeError(
                    f"a backbone makes a sequence frame by frame, and {type(backbone).__name__} has no method "
                    f"{name!r}: see flowmaps.networks.backbones"
                )
        self.head: Any = head
        self.backbone: Any = backbone
        if ends and not isinstance(getattr(backbone, "size", None), int):
            raise TypeError(f"ends=True needs the size of a context, and {type(backbone).__name__} has no `size`")
        self.end = nn.Linear(backbone.size, 1) if ends else None  # type: ignore[arg-type]

    @property
    def ends(self) -> bool:
        """Whether it predicts the end of a sequence."""
        return self.end is not None

    def prepare(
        self, *, context: Tensor | None = None, past: Past | Tensor | None = None, frame: Tensor | None = None
    ) -> dict[str, Any]:
        """Compute the contexts of frames.

        Args:
            context: contexts that are computed already, (n, D); they are returned.
            past: the sequences, with their conditions; a tensor (B, T, C) without any.
            frame: numbers of the frames (n,) among the B T of all sequences. None: all, in order.

        Returns:
            {"context": contexts (n, D)}.

        Raises:
            ValueError: there are neither contexts nor sequences.
        """
        if context is not None:
            return {"context": context}
        if past is None:
            raise ValueError(
                "a head on a backbone needs the past frames: train it by fm.sequences.teacher_forced(method), and "
                "sample it by fm.sample(flow, noise) with noise (B, T, C)"
            )
        past = Past(past) if isinstance(past, Tensor) else past
        contexts = self.backbone(past.frames, **past.condition).flatten(0, 1)
        return {"context": contexts if frame is None else contexts[frame]}

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate the head at frames x (n, C) and times (n,), for contexts or for the conditions of `prepare`."""
        return self.head(x, s, t, **self.prepare(**condition))

    def ending(self, context: Tensor) -> Tensor:
        """Logits (n,) that frames with contexts (n, D) are the last of their sequences."""
        assert self.end is not None
        return self.end(context)[:, 0]

    def begin(self, rows: int, **condition: Any) -> Any:
        """The state before the first frame of `rows` sequences, with the conditions of the backbone."""
        return self.backbone.begin(rows, **condition)

    def next(self, state: Any, frame: Tensor | None) -> tuple[dict[str, Tensor], Any]:
        """The condition of the next frame, {"context": (B, D)}, and the state; `frame` (B, C) is the last one."""
        context, state = self.backbone.next(state, frame)
        return {"context": context}, state


class GuidedContexts(nn.Module):
    """A head on a backbone whose contexts are guided: z_null + scale (z - z_null).

    The head of pocket-tts is guided like this: a mixture of contexts, not of velocities.

    Args:
        network: the network.
        scale: the scale; 1 changes nothing.
        null: conditions of the backbone that stand for no condition, such as {"label": 10}.
    """

    def __init__(self, network: WithBackbone, scale: float, null: Mapping[str, Any]) -> None:
        super().__init__()
        self.network, self.scale, self.null = network, scale, dict(null)

    @property
    def head(self) -> Any:
        """The head."""
        return self.network.head

    @property
    def ends(self) -> bool:
        """Whether the network predicts the end of a sequence."""
        return self.network.ends

    def prepare(
        self, *, context: Tensor | None = None, past: Past | Tensor | None = None, frame: Tensor | None = None
    ) -> dict[str, Any]:
        """The guided contexts of frames; see `WithBackbone.prepare`."""
        if context is not None or past is None:
            return self.network.prepare(context=context)
        told = Past(past) if isinstance(past, Tensor) else past
        plain = replace(told, condition={**told.condition, **self.null})
        first, second = (self.network.prepare(past=one, frame=frame)["context"] for one in (told, plain))
        return {"context": torch.lerp(second, first, self.scale)}

    def forward(self, x: Tensor, s: Tensor, t: Tensor, **condition: Any) -> Tensor:
        """Evaluate the head at frames, for guided contexts or for the conditions of `prepare`."""
        return self.network(x, s, t, **self.prepare(**condition))

    def ending(self, context: Tensor) -> Tensor:
        """Logits (n,) that frames with contexts (n, D) are the last of their sequences."""
        return self.network.ending(context)

    def begin(self, rows: int, **condition: Any) -> tuple[Any, Any]:
        """The states with and without the condition."""
        return self.network.begin(rows, **condition), self.network.begin(rows, **{**condition, **self.null})

    def next(self, states: tuple[Any, Any], frame: Tensor | None) -> tuple[dict[str, Tensor], tuple[Any, Any]]:
        """The guided context and the states."""
        (told, first), (plain, second) = self.network.next(states[0], frame), self.network.next(states[1], frame)
        return {"context": torch.lerp(plain["context"], told["context"], self.scale)}, (first, second)
