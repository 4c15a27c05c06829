"""An autoregressive model of continuous frames: a flow map of one frame on a backbone of the past."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import at_least, check_seed, finite, positive, shown
from ..flow_map import FlowMap, GuidanceSpec, expect_flow, like_weights
from ..method.method import Loss, Method
from ..networks import WithBackbone
from ..networks.with_backbone import GuidedContexts, has_backbone
from ..sampling import by_name
from ..sampling.grid import descending
from ..sampling.in_order import PROMPT, VALID, frames
from ..sampling.states import placed, restored, standardised
from ..steps import Step, jump, named
from .forcing import teacher_forced

END = 0.1
"""Weight of the cross-entropy of the end, as in pocket-tts."""


@dataclass(frozen=True)
class Generated:
    """Sequences that a model made.

    Attributes:
        frames: Frames (B, T, C), in the units of the data. Frames after the end of a sequence mean nothing.
        lengths: Number of frames up to the predicted end, (B,); T where no end was predicted.
    """

    frames: Tensor
    lengths: Tensor


class Autoregressive(nn.Module):
    """A flow-map head on a backbone: x_k = F(eps_k, 1, 0 | z_k), with the context z_k of all frames before k.

    Args:
        flow: Flow map of one frame (C,), whose network is called as network(x, s, t, context=z), such as
            `fm.FlowMap(fm.networks.Head(C, context=256))`. Its weights are shared.
        backbone: Contexts (B, T, D) of sequences (B, T, C), such as `fm.networks.CausalTransformer(C, 256)`.
        ends: Whether the model predicts the end of a sequence.

    Attributes:
        flow: The flow map of frames with the backbone inside its network. It trains, saves and samples as any other
            one: `fm.train(model.flow, model.method(fm.methods.lsd()), data)`, `fm.sample(model.flow, noise)` with noise
            (B, T, C).

    Raises:
        TypeError: The flow map or the backbone is something else.

    CALM, Rouard et al. 2025, arXiv 2509.06926. The head of kyutai-labs/pocket-tts is trained by `lsd` with a learned
    weight.
    """

    def __init__(self, flow: FlowMap, backbone: nn.Module, ends: bool = False) -> None:
        super().__init__()
        expect_flow(flow)
        self.flow = flow.around(WithBackbone(flow.network, backbone, ends))

    @classmethod
    def of(cls, flow: FlowMap) -> Autoregressive:
        """The model around a flow map whose network has a backbone, such as a loaded run.

        Raises:
            TypeError: Its network has none.
        """
        _check_backbone(flow)
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.flow = flow
        return made

    @property
    def network(self) -> WithBackbone:
        """The head on the backbone."""
        return self.flow.network  # type: ignore[return-value]

    def method(self, method: Method, repeats: int = 4, past_noise: float = 0.0, end: float = END) -> Method:
        """A method of frames as a method of sequences for this model, see `teacher_forced`."""
        return teacher_forced(method, repeats, past_noise, end if self.network.ends else 0.0)

    def loss(
        self,
        method: Method,
        x: Tensor,
        mask: Tensor | None = None,
        repeats: int = 4,
        *,
        condition: Tensor | Mapping[str, Any] | None = None,
        past_noise: float = 0.0,
        end: float = END,
        **options: Any,
    ) -> Loss:
        """Compute the loss of a method on sequences, with one pass of the backbone.

        Args:
            method: A method of frames, such as `fm.methods.lsd()`.
            x: Sequences of frames (B, T, C).
            mask: False for frames after the end of a sequence, (B, T). None: all frames count.
            repeats: Noise draws of each frame.
            condition: Conditions of the backbone.
            past_noise: Standard deviation of the noise on past frames.
            end: Weight of the cross-entropy of the end.
            **options: Further arguments of `Method.loss`.

        Returns:
            The loss.
        """
        given = by_name(condition) | ({} if mask is None else {VALID: mask})
        return self.method(method, repeats, past_noise, end).loss(self.flow, x, given, **options)

    @torch.no_grad()
    def generate(
        self,
        prompt: Tensor | None = None,
        length: int | None = None,
        *,
        steps: int = 1,
        step: Step | str = jump,
        temperature: float = 1.0,
        clamp: float | None = None,
        guidance: float = 1.0,
        null: Mapping[str, Any] | None = None,
        condition: Tensor | Mapping[str, Any] | None = None,
        noise: Tensor | None = None,
        rows: int | None = None,
        seed: int | None = None,
    ) -> Generated:
        """Make sequences frame by frame, and stop when all of them have ended.

        Args:
            prompt: Frames (B, P, C) in the units of the data, which the sequences continue. None: no prompt.
            length: Most frames to make. None: as many as a row of the training data has.
            steps: Steps of the head for each frame.
            step: Step of the head.
            temperature: Variance of the noise. It is exact for Gaussian laws of the next frame alone, N(mu, T sigma^2).
                For other laws it moves samples towards the image of zero noise, which may lie between two modes.
            clamp: Largest absolute value of the noise. None: no limit.
            guidance: Scale of guidance of the contexts, z_null + scale (z - z_null).
            null: The conditions that stand for no condition, such as {"label": 10}; needed for guidance.
            condition: Conditions of the backbone.
            noise: Standard normal noise (B, length, C). None: drawn.
            rows: Number of sequences. None: as many as the prompt or a condition has, or 1.
            seed: Seed of the noise; the global generator is left alone. None: it is drawn from.

        Returns:
            The frames after the prompt, and the length of each sequence.

        Raises:
            ValueError: A number is out of range, the length is not known, or guidance has no null condition, or the
                model has learned guidance already.
        """
        positive(temperature=temperature)
        finite(guidance=guidance)
        given = by_name(condition)
        noise = self._noise(noise, prompt, length, rows, given, seed) * math.sqrt(temperature)
        if clamp is not None:
            positive(clamp=clamp)
            noise = noise.clamp(-clamp, clamp)
        noise = self.flow.path.noise(noise)
        flow, like = self._guided(guidance, null), like_weights(self.flow)
        if prompt is not None:
            given[PROMPT] = standardised(flow, prompt, 0.0)
        flow = flow.given(**{name: placed(like, value) for name, value in given.items()})
        grid = descending(steps, None)
        made, lengths = [], torch.full((len(noise),), noise.shape[1], device=noise.device)
        for k, (one, states) in enumerate(frames(flow, noise, grid, named(step))):
            made.append(states[-1])
            if self.network.ends:
                ended = self.network.ending(one.condition["context"]) > 0
                lengths = torch.where(ended & (lengths > k + 1), k + 1, lengths)
                if bool((lengths <= k + 1).all()):
                    break
        return Generated(restored(flow, torch.stack(made, 1), 0.0), lengths.clamp(max=len(made)))

    def _noise(
        self,
        noise: Tensor | None,
        prompt: Tensor | None,
        length: int | None,
        rows: int | None,
        condition: Mapping[str, Any],
        seed: int | None,
    ) -> Tensor:
        """Noise (B, T, C), given or drawn."""
        if noise is not None:
            return placed(like_weights(self.flow), noise)
        trained = None if self.flow.trained is None else self.flow.trained.shape
        channels = getattr(self.network.head, "shape", None) or (trained and trained[1:])
        count = length if length is not None else trained[0] if trained and len(trained) == 2 else None
        if count is None or channels is None:
            raise ValueError("the size of a sequence is not known: pass length=, or noise=torch.randn(B, T, C)")
        at_least(1, length=count)
        known = [len(one) for one in (prompt, *condition.values()) if isinstance(one, Tensor) and one.ndim]
        rows = rows if rows is not None else max(known, default=1)
        at_least(1, rows=rows)
        if seed is not None:
            check_seed(seed)
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return torch.randn(rows, count, *channels, generator=generator).to(self.flow.like)

    def _guided(self, scale: float, null: Mapping[str, Any] | None) -> FlowMap:
        """The flow map with guided contexts."""
        if scale == 1:
            return self.flow
        return guided_contexts(self.flow, scale, null or {})


def guided_contexts(flow: FlowMap, scale: float, null: Mapping[str, Any]) -> FlowMap:
    """Guide the contexts of a head on a backbone: z_null + scale (z - z_null).

    The guided flow map makes sequences, and it is a teacher: `fm.methods.splitmeanflow(teacher=guided)` trains a head
    that needs no guidance. A velocity of frames is guided by `fm.guidance`, but a condition of the backbone, such as a
    label, acts on contexts.

    Args:
        flow: The flow map of an `Autoregressive`. Its weights are shared.
        scale: The scale; 1 changes nothing.
        null: Conditions of the backbone that stand for no condition, such as {"label": 10}.

    Returns:
        The guided flow map.

    Raises:
        TypeError: The flow map has no backbone, or null is no mapping.
        ValueError: There is no null condition, the contexts are guided already, or the scale is not finite.
    """
    network: Any = _check_backbone(flow)
    finite(scale=scale)
    if not isinstance(null, Mapping):
        raise TypeError(f"null holds the null conditions by name, such as {{'label': 10}}, got {shown(null)}")
    if not null:
        raise ValueError("guidance compares with a null condition of the backbone: pass null={'label': classes}")
    if flow.guidance is not None:
        raise ValueError(f"this flow map is guided already ({flow.guidance}), and two scales would be multiplied")
    made = flow.around(GuidedContexts(network, scale, null))
    made.guidance = GuidanceSpec(scale, null=null, kind="GuidedContexts")
    return made


def _check_backbone(flow: Any) -> Any:
    """The network of a flow map with a backbone. Raises TypeError for any other one."""
    network = getattr(flow, "network", None)
    if not has_backbone(network):
        raise TypeError("this flow map has no backbone: its network is no networks.WithBackbone")
    return network


def guided_contexts_loss(
    student: nn.Module,
    teacher: nn.Module,
    x: Tensor,
    scale: float,
    null: Mapping[str, Any],
    condition: Tensor | Mapping[str, Any] | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Distil a backbone into one whose contexts are guided already; the head stays frozen.

        mean over frames of | z_student - (z_null + scale (z - z_null)) |^2 / D

    Args:
        student: The backbone in training; it may be smaller, with contexts of the same size.
        teacher: The frozen backbone.
        x: Sequences (B, T, C).
        scale: The scale of guidance.
        null: The conditions that stand for no condition.
        condition: The conditions.
        mask: False for frames after the end of a sequence, (B, T). None: all frames count.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: The contexts have different sizes.
    """
    given = by_name(condition)
    with torch.no_grad():
        told, plain = teacher(x, **given), teacher(x, **{**given, **null})
        target = torch.lerp(plain, told, scale)
    found = student(x, **given)
    if found.shape != target.shape:
        raise ValueError(f"the student's contexts are {tuple(found.shape)}, and the teacher's {tuple(target.shape)}")
    squares = (found - target).square().mean(-1)
    return squares.mean() if mask is None else squares[mask.bool()].mean()
