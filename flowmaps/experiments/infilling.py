"""Templates of texts, such as "the ____ of", as tokens that are given to the samples of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..data.vocabularies import Tokenizer, one_hot
from ..discrete import Held
from ..runs.loading import read_vocabulary

GAP = "_"
"""Sign of a free place in a template."""


def held_of(template: str, config: Mapping[str, Any]) -> Held:
    """Read a template of a text.

    Args:
        template: The text; every "_" is one free token. The places after its end are free too.
        config: The content of config.json of a run.

    Returns:
        The given tokens.

    Raises:
        TypeError: The template is no text.
        ValueError: The run has no texts or a tokenizer whose tokens are no characters, the template is too long, has
            characters outside of the vocabulary, or gives no token.
    """
    about = config["data"]
    if not isinstance(template, str):
        raise TypeError(f"`infill` takes a text such as 'the ____ of', got {type(template).__name__}")
    vocabulary = read_vocabulary(config, Path("config.json")) if about["kind"] == "tokens" else None
    if vocabulary is None or isinstance(vocabulary, Tokenizer):
        what = "the tokens of a tokenizer" if vocabulary else f"{about['kind']} without texts"
        raise ValueError(
            f"`infill` fills gaps in texts of characters or bytes, and this run holds {what}: in Python, "
            "fm.discrete.infill takes tokens"
        )
    length, size = about["shape"]
    pieces = template.split(GAP)
    if GAP in vocabulary.text_of(range(vocabulary.size)):
        raise ValueError(f"{GAP!r} is a symbol of this vocabulary: in Python, fm.discrete.infill takes tokens")
    tokens: list[int] = []
    known: list[bool] = []
    for at, piece in enumerate(pieces):
        if at:
            tokens.append(0)
            known.append(False)
        found = vocabulary.encode(piece).tolist() if piece else []
        tokens += found
        known += [True] * len(found)
    if len(tokens) > length:
        raise ValueError(f"`infill` has {len(tokens)} tokens, and rows of this run have {length}: give a shorter text")
    free = length - len(tokens)
    row = one_hot(torch.tensor(tokens + [0] * free), size)
    return Held(row, torch.tensor(known + [False] * free))
