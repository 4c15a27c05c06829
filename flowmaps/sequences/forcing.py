"""Teacher forcing: any method as a method of sequences, whose rows are frames with contexts of the true past."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments import at_least, shown, within
from ..draws import Rows, normal
from ..flow_map import FlowMap
from ..method.batch import checked_condition, checked_rows, checked_times, split_batch
from ..method.method import Method
from ..method.several import Several
from ..method.term import RuleAround, Term, changed
from ..networks.with_backbone import Past
from ..path import Time
from ..sampling import rows_of
from ..sampling.in_order import VALID
from ..velocity import Pair
from ..velocity.sources import Constant
from ..weight import Weight

ENDS = "ends"
"""Number of a row: 1 for the last frame of a sequence that ends within its window."""


class TeacherForced(Method):
    """A method of frames, as a method of sequences (B, T, C).

        loss = mean over sequences and frames k of  method.loss(flow, x_k | context z_k),   z_k of the true frames < k

    The rows of each term are all frames of its sequences, `repeats` times with other noise and times. The backbone runs
    once on each sequence, and gradients reach it through the contexts. A sequence that ends early counts as much as any
    other one: its frames are taken again in the place of the missing ones.

    Args:
        method: The method of frames. Its companions belong to the new one.
        repeats: Noise draws of each frame. A term that compares rows in blocks compares the draws of one frame.
        past_noise: Standard deviation of the noise on the frames that the backbone reads.
        end: Weight of the cross-entropy of the end of a sequence, for networks that predict it. 0: not trained.

    Raises:
        TypeError: The method is something else.
        ValueError: There is less than one repeat, a number is negative, or the method compares blocks of another number
            of rows than `repeats`.
    """

    def __init__(self, method: Method, repeats: int = 4, past_noise: float = 0.0, end: float = 0.0) -> None:
        if not isinstance(method, Method) or isinstance(method, Several):
            raise TypeError(f"teacher forcing takes a method, such as fm.methods.lsd(), got {shown(method)}")
        at_least(1, repeats=repeats)
        within(0, math.inf, past_noise=past_noise, end=end)
        for term in method.terms:
            if term.group is not None and term.group != repeats:
                raise ValueError(
                    f"the term {term.name} compares blocks of {term.group or 'all'} rows, and the rows of one frame "
                    f"are its {repeats} noise draws: take repeats={term.group or 'M'} and group=repeats"
                )
        super().__init__(*(_ending(term, end) if end else term for term in method.terms), name=method.name)
        self.repeats, self.past_noise, self.end = repeats, past_noise, end
        self.hidden, self.trains_flow = (*method.hidden, VALID), method.trains_flow

    def draw(
        self,
        flow: FlowMap,
        x0: Tensor,
        condition: Tensor | Mapping[str, Any] | None = None,
        *,
        noise: Tensor | None = None,
        times: tuple[Time, Time] | None = None,
        progress: float = 0.0,
        rows: Rows = Rows(),
    ) -> tuple[Pair, ...]:
        """Draw everything random of a step.

        Args:
            flow: The flow map in training.
            x0: Sequences (B, T, C).
            condition: Conditions of the backbone, and `valid`, (B, T), false after the end of a sequence.
            noise: Noise of the frames, (repeats, T, B, C), for one term. None: standard normal.
            times: Times (s, t), numbers or one for each row of `noise`. None: drawn.
            progress: Share of training that is done, in [0, 1].
            rows: Sequences of a larger batch that x0 holds.

        Returns:
            One pair for each term; its rows are frames.

        Raises:
            ValueError: The data are no sequences, a sequence has no frame, or processes share the sequences of a term
                unevenly.
        """
        if x0.ndim != 3 or 0 in x0.shape:
            raise ValueError(f"teacher forcing takes sequences (B, T, C), got {tuple(x0.shape)}")
        if flow.units is not None and flow.units.axis == 0 and len(flow.units.mean) > 1:
            raise ValueError(
                "these sequences are standardised frame by frame, so that frames have no common units: standardise "
                "each number over all frames, fm.data.by_channel(data)"
            )
        rows = checked_rows(x0, None, rows)
        conditions = checked_condition(condition, len(x0))
        lengths = _lengths(conditions.pop(VALID, None), x0)
        terms, plain = self.now(progress), [replace(term, group=None) for term in self.terms]
        pairs = []
        for term, (part, of_term) in zip(terms, split_batch(plain, rows, whole=times is not None), strict=True):
            own = {name: rows_of(value, part) for name, value in conditions.items()}
            pair = self._frames(flow, x0[part], own, lengths[part], of_term, term, noise)
            drawn = term.draw(pair, progress, None if times is None else checked_times(times, pair.x0))
            ends = pair.numbers if self.end else {}
            pairs.append(replace(drawn, numbers={**drawn.numbers, **ends}))
        return tuple(pairs)

    def _frames(
        self,
        flow: FlowMap,
        x: Tensor,
        condition: dict[str, Any],
        lengths: Tensor,
        rows: Rows,
        term: Term,
        noise: Tensor | None,
    ) -> Pair:
        """All frames of sequences (b, T, C) as rows, in the order of repeats, frames, sequences.

        So row r of a batch that processes share belongs to the process of its sequence, and a block of `repeats` rows
        is one frame.
        """
        sequences, count, _ = x.shape
        if (rows.total or 0) % rows.every:
            raise ValueError(
                f"{rows.every} processes or parts share {rows.total} sequences of the term {term.name} unevenly: take "
                f"a batch in which each term has a multiple of {rows.every}"
            )
        k = torch.arange(count, device=x.device)[:, None] % lengths  # (T, b)
        j = torch.arange(sequences, device=x.device).expand(count, -1)
        k, j = (index.expand(self.repeats, -1, -1).flatten() for index in (k, j))
        total = self.repeats * count * (rows.total or 0)
        of_frames = Rows(rows.first, rows.every, total, rows.mean).in_groups(term.group, term.name)
        x0 = x[j, k]
        eps = of_frames.draw(normal, x0) if noise is None else noise.reshape(x0.shape)
        past = x + self.past_noise * rows.draw(normal, x) if self.past_noise else x
        last = (k == lengths[j] - 1) & (lengths[j] < count)
        given = {"past": Past(past, condition), "frame": j * count + k}
        return Pair(x0, eps, flow.path, given, rows=of_frames, numbers={ENDS: last.to(x0.dtype)[:, None]})


@dataclass(frozen=True)
class WithEnding(RuleAround):
    """A rule with the cross-entropy of the end of a sequence beside it.

    Args:
        rule: The rule.
        name: Name of its residual, if it returns one.
    """

    def __call__(
        self, flow: FlowMap, teacher: Any, x: Tensor, s: Tensor, t: Tensor, *, ends: Tensor, **options: Any
    ) -> dict[str, Tensor]:
        """The residuals by name, and the cross-entropy "end" of each row, (n, 1).

        Args:
            flow: A flow map whose network predicts ends; its context is bound.
            teacher: The velocity of the rule.
            x: Frames x_s, (n, C).
            s: Source times, (n, 1).
            t: Target times, likewise.
            ends: 1 for frames that end their sequence, else 0, (n, 1).
            **options: Options of the rule.

        Raises:
            TypeError: The network predicts no ends.
        """
        network: Any = flow.network.module if isinstance(flow.network, Constant) else flow.network
        if not getattr(network, "ends", False):
            raise TypeError("an end of sequences is trained, and the network predicts none: make it with ends=True")
        residuals = self.named(self.rule(flow, teacher, x, s, t, **options))
        logits = network.ending(flow.condition["context"])[:, None]
        return residuals | {"end": F.binary_cross_entropy_with_logits(logits, ends, reduction="none")}


def _ending(term: Term, end: float) -> Term:
    """A term with the cross-entropy of the end beside its residuals."""
    return changed(term, lambda now: WithEnding(now.rule, term.name), lambda now: _weights(now, end))


def _weights(term: Term, end: float) -> dict[str, Weight]:
    """The weights of a term by name, with the one of the end."""
    each = term.weight if isinstance(term.weight, Mapping) else {term.name: term.weight}
    return {**each, "end": functools.partial(_scaled, factor=end)}


def _scaled(residual: Tensor, s: Tensor, t: Tensor, factor: float) -> Tensor:
    """A loss of one number a row times a factor."""
    return factor * residual.flatten(1).mean(1)


def teacher_forced(method: Method, repeats: int = 4, past_noise: float = 0.0, end: float = 0.0) -> Method:
    """Make a method of sequences from any method; its stages and turns are changed one by one.

    The cost of a step is the backbone's forward and backward pass once a sequence, and the head's cost of the method
    times `repeats`. Several noise draws a frame on one pass of the backbone are the head batch multiplier of CALM,
    Rouard et al. 2025, arXiv 2509.06926.

    Args:
        method: The method, such as `fm.methods.lsd()`. It is used up: its companions belong to the new one.
        repeats: Noise draws of each frame.
        past_noise: Standard deviation of the noise on the past frames, which makes the model robust to its own errors.
        end: Weight of the cross-entropy of the end of a sequence.

    Returns:
        The method, for flow maps whose network is a `networks.WithBackbone`, and data (B, T, C).

    Raises:
        TypeError: The method is something else.
        ValueError: A number is out of range, or the method compares blocks of another number of rows.
    """
    if isinstance(method, TeacherForced):
        raise ValueError("this method is teacher-forced already")
    if isinstance(method, Several):
        return method.each(lambda one: teacher_forced(one, repeats, past_noise, end), method.name)
    return TeacherForced(method, repeats, past_noise, end)


def with_contexts(flow: FlowMap, x: Tensor) -> tuple[FlowMap, Tensor]:
    """Bind a flow map to the contexts of the true past, for measures at frames.

    Args:
        flow: A flow map whose network has a backbone; the conditions of the backbone are bound.
        x: Sequences (B, T, C).

    Returns:
        The flow map of frames, and all frames as rows (B T, C).
    """
    bound = flow.given()
    bound.condition = {"past": Past(x.to(flow.like), dict(flow.condition))}
    if bound.trained is not None:
        bound.trained = replace(bound.trained, conditions=("past",), dropped=())
    return bound.prepared(), x.flatten(0, 1)


def _lengths(valid: Any, x: Tensor) -> Tensor:
    """Numbers of frames (B,) of sequences (B, T, C) by their mask (B, T); T without one.

    Raises:
        ValueError: The mask has another shape, has a gap, or leaves a sequence empty.
    """
    if valid is None:
        return torch.full((len(x),), x.shape[1], device=x.device)
    if not isinstance(valid, Tensor) or valid.shape != x.shape[:2]:
        got = tuple(valid.shape) if isinstance(valid, Tensor) else shown(valid)
        raise ValueError(f"the mask of sequences {tuple(x.shape)} has shape {tuple(x.shape[:2])}, got {got}")
    valid = valid.bool()
    lengths = valid.sum(1)
    if valid.device.type == "cpu":
        if not bool(lengths.all()):
            raise ValueError("a sequence has no frame: its mask is false everywhere")
        if bool((valid[:, 1:] & ~valid[:, :-1]).any()):
            raise ValueError("a mask of sequences is true up to the end of each and false after it; this one has gaps")
    return lengths.clamp(min=1)
