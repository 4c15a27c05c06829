"""Recipes of speech at sizes that need GPUs: a flow-map head on a causal transformer over latents of a codec."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ..method.method import Method
from ..methods import flow_matching, lsd, papers, splitmeanflow
from ..networks import CausalTransformer, Head, WithBackbone
from ..times.modifiers import mixture
from ..times.samplers import logit_normal_pairs, uniform_triangle
from ..weight import learned
from .recipe import Recipe


def on_backbone(
    shape: Sequence[int], *, classes: int | None, width: int, depth: int, heads: int, head_width: int, head_depth: int
) -> nn.Module:
    """A `Head` on a `CausalTransformer`, for sequences of shape (T, C)."""
    head = Head(shape[1], width, head_width, head_depth)
    return WithBackbone(head, CausalTransformer(shape[1], width, depth, heads, classes=classes))


SPEECH: dict[str, Any] = {
    "data": "latents of a codec at 12.5 Hz, 32 numbers a frame, standardised: an array (N, 250, 32) of 20 s a row",
    "shape": (250, 32),
    "network": partial(on_backbone, width=1024, depth=24, heads=16, head_width=512, head_depth=6),
    "small": {"width": 32, "depth": 2, "heads": 2, "head_width": 16, "head_depth": 1},
    "classes": None,
    "repeats": 4,
    "batch_size": 64,
    "lr": 2e-4,
    "optimizer": partial(torch.optim.AdamW, betas=(0.9, 0.95), weight_decay=0.1),
    "ema": 0.999,
    "precision": "bf16",
    "where": "sizes, optimiser and batch of the code of kyutai-labs/pocket-tts; the number of steps is ours",
}
"""A backbone of 24 blocks of width 1024, and a head of 6 blocks of width 512."""
NO_TEXT = "without a text encoder: rows are continued, not read from a text; four noise draws a frame"


def lsd_head() -> Method:
    """Lagrangian self-distillation with a learned weight, as in pocket-tts.

    Half of the times are logit-normal, and half uniform up to s = 1, from where one jump starts.
    """
    times = mixture(0.5, logit_normal_pairs(), uniform_triangle(1e-3))
    return lsd(diagonal=0.75, times=times, weight=learned())


lsd_head.row = lsd.row  # type: ignore[attr-defined]

SPEECH_RECIPES = (
    Recipe(
        name="speech-head-flow-matching",
        method=flow_matching,
        steps=500_000,
        paper=papers.LIPMAN2023FLOW,
        differs=f"a diffusion head, the teacher of the distillation; {NO_TEXT}",
        **SPEECH,
    ),
    Recipe(
        name="speech-head-splitmeanflow",
        method=splitmeanflow,
        steps=100_000,
        teacher="speech-head-flow-matching",
        start="speech-head-flow-matching",
        paper=papers.GUO2025SPLITMEANFLOW,
        differs=f"the paper distils whole speech decoders, whose settings are not public; {NO_TEXT}",
        **SPEECH,
    ),
    Recipe(
        name="speech-head-lsd",
        method=lsd_head,
        steps=500_000,
        paper=papers.BOFFI2025BUILD,
        differs=f"half of the times are uniform up to s = 1; {NO_TEXT}",
        **SPEECH,
    ),
)
