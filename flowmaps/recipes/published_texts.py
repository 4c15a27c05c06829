"""Recipes of texts at sizes that need GPUs: the usual transformer of discrete diffusion, on text8 and LM1B."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import nn

from ..links import softmax
from ..methods import dfm_psd, flm, fmlm, papers
from ..networks import TokenTransformer
from ..outputs import Endpoint
from .recipe import Recipe


def tokens(shape: Sequence[int], *, classes: int | None, **sizes: Any) -> nn.Module:
    """A `TokenTransformer` for rows of shape (L, K)."""
    length, vocabulary = shape
    return TokenTransformer(vocabulary, length, classes=classes, **sizes)


SMALL: dict[str, Any] = {
    "network": partial(tokens, width=768, depth=12, heads=12),
    "small": {"width": 16, "depth": 2, "heads": 2},
    "output": Endpoint(link=softmax),
    "classes": None,
    "batch_size": 512,
    "lr": 3e-4,
    "precision": "bf16",
}
"""Twelve blocks of width 768, as discrete diffusion models usually have them."""
TEXT8: dict[str, Any] = {
    **SMALL,
    "data": 'text8, text:text8.txt with length=256 and vocabulary="letters"',
    "shape": (256, 27),
    "steps": 1_000_000,
}
LM1B: dict[str, Any] = {
    **SMALL,
    "data": "One Billion Words as rows of 128 tokens of bert-base-uncased, from Python by fm.data.tokens(ids, 30522)",
    "shape": (128, 30_522),
}
OURS = "ours: the transformer and the batch that discrete diffusion usually has on this text"
ONE_HOT = "one-hot rows of 30,522 values at each position, which need most of the memory; the rate and length are ours"

TEXTS = (
    Recipe(
        name="text8-transformer-dfm-psd",
        method=dfm_psd,
        paper=papers.POTAPTCHIK2026DISCRETE,
        where=OURS,
        differs="the paper's own settings for this text are not known here",
        **TEXT8,
    ),
    Recipe(
        name="lm1b-transformer-flm",
        method=flm,
        steps=1_000_000,
        paper=papers.LEE2026FLOW,
        where=OURS,
        differs=ONE_HOT,
        **LM1B,
    ),
    Recipe(
        name="lm1b-transformer-fmlm",
        method=fmlm,
        steps=100_000,
        teacher="lm1b-transformer-flm",
        start="lm1b-transformer-flm",
        paper=papers.LEE2026FLOW,
        where=OURS,
        differs=ONE_HOT,
        **LM1B,
    ),
)
