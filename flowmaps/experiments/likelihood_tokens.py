"""Log-probabilities of tokens: the estimators that runs on tokens have, and their numbers by token and character."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from .. import likelihood
from ..data import Vocabulary, tokens_of
from .likelihood_estimators import Named
from .likelihood_table import LikelihoodRow

USUAL = "tokens:16"
"""The usual estimator of runs on tokens."""


def check_tokens(config: Mapping[str, Any], estimators: Sequence[Named]) -> None:
    """Refuse estimators of densities for tokens, and the bound of tokens for other data.

    Args:
        config: The content of config.json of the run.
        estimators: The estimators.

    Raises:
        ValueError: An estimator does not fit the rows.
    """
    about = config["data"]
    for one in estimators:
        is_bound = isinstance(one.estimate, likelihood.TokenBound)
        if about["kind"] == "tokens" and not is_bound:
            raise ValueError(
                f"the rows of this run are tokens, {about['name']}, which have probabilities and no density, so "
                f"{one.name} is not possible: take {USUAL}"
            )
        if is_bound and about["kind"] != "tokens":
            raise ValueError(f"{one.name} is for tokens, and the rows of this run are {about['kind']}, {about['name']}")


def note(row: LikelihoodRow, x: Tensor, vocabulary: Vocabulary | None) -> str:
    """Write a log-probability as nats a token, and as bits a character if tokens have texts.

    Args:
        row: The numbers of some rows.
        x: The rows, (n, L, K).
        vocabulary: Texts of the tokens.

    Returns:
        The sentence.
    """
    if row.nats is None:
        return f"{row.rows}, {row.by}: no numbers"
    length = x.shape[1]
    error = 0.0 if row.stderr is None else row.stderr
    said = f"{row.rows}, {row.by}: at most {-row.nats / length:.4f} +- {error / length:.4f} nats a token"
    if vocabulary is None:
        return said
    characters = sum(len(vocabulary.text_of(tokens)) for tokens in tokens_of(x).tolist()) / len(x)
    bits, spread = (value / characters / math.log(2) for value in (-row.nats, error))
    return f"{said}, {bits:.4f} +- {spread:.4f} bits a character"
