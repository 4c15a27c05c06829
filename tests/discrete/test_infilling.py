"""Infilling against the conditional laws of a table, templates of texts, and refusals."""

import math

import pytest
import torch

import flowmaps as fm
from flowmaps.data import Bytes, Characters, tokens_of
from flowmaps.data.vocabularies import one_hot
from flowmaps.discrete import Held, infill
from flowmaps.experiments.infilling import held_of
from flowmaps.serialise import describe

TABLE = torch.zeros(3, 3, 3, dtype=torch.float64)
TABLE[0, 0, 1], TABLE[0, 2, 1], TABLE[1, 1, 0], TABLE[2, 2, 2], TABLE[2, 0, 1], TABLE[1, 2, 2] = (
    torch.tensor([6, 3, 5, 4, 2, 5], dtype=torch.float64) / 25
)


@pytest.mark.parametrize("known", [(True, False, False), (True, False, True)])
def test_particles_have_the_conditional_law_of_a_table(known):
    """One given token, for which the push is exact, and two, whose error the weights remove.

    A frequency has a standard deviation of at most 1/2 for one particle, so 0.016 for 1000 effective ones.
    """
    given = torch.tensor(known)
    held = Held(one_hot(torch.tensor([0, 0, 1]), 3).double(), given)
    noise = torch.randn(2000, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = infill(fm.exact.Categorical(TABLE), noise, held, 40, seed=1)
    tokens = tokens_of(found.x)
    assert bool((tokens[:, given] == torch.tensor([0, 0, 1])[given]).all())
    law = (found.weights.flatten() * (tokens == torch.tensor([0, 0, 1])).all(1)).sum()
    assert float(law) == pytest.approx(6 / 9, abs=0.05)
    assert float(found.log_z) == pytest.approx(math.log(9 / 25), abs=0.1)
    assert 1000 < 2000 * float(found.ess[-1])


def about(vocabulary, length=9):
    return {"data": {"kind": "tokens", "shape": [length, vocabulary.size], "vocabulary": describe(vocabulary)}}


@pytest.mark.parametrize("vocabulary", [Characters("abc "), Bytes(tuple(b"abc "))])
def test_a_template_gives_its_characters_and_leaves_gaps_and_the_end_free(vocabulary):
    held = held_of("a_ __cb", about(vocabulary))
    assert held.known.tolist() == [True, False, True, False, False, True, True, False, False]
    assert vocabulary.decode(held.completed(one_hot(torch.full((1, 9), 1), 4))) == ["ab bbcbbb"]
    assert float(held(held.tokens[None])) == 0
    assert float(held(one_hot(torch.full((1, 9), 1), 4))) == pytest.approx(3 * math.log(1e-6))


def test_wrong_tokens_and_templates_are_refused():
    row, known = one_hot(torch.tensor([0, 1]), 3), torch.tensor([True, False])
    letters = about(Characters("abc "), 3)
    for wrong, error, message in [
        (lambda: Held(row, known[:1]), ValueError, r"a boolean mask \(L,\)"),
        (lambda: Held(row, ~known & known), ValueError, "at least one token"),
        (lambda: Held(row / 2, known), ValueError, "as a one-hot row"),
        (lambda: infill(None, torch.zeros(4, 3, 3), Held(row, known)), ValueError, r"a row \(2, 3\)"),
        (lambda: held_of("abcab", letters), ValueError, "has 5 tokens, and rows of this run have 3"),
        (lambda: held_of("axc", letters), ValueError, "1 of 3 characters are none of the 4 symbols"),
        (lambda: held_of("___", letters), ValueError, "at least one token"),
        (lambda: held_of("a", about(Characters("ab_"))), ValueError, "'_' is a symbol of this vocabulary"),
        (lambda: held_of("a", {"data": {"kind": "images", "shape": [1, 8, 8]}}), ValueError, "holds images"),
    ]:
        with pytest.raises(error, match=message):
            wrong()
