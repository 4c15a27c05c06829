"""Measures of tokens against counts by hand, with floors, standard errors, controls and refusals."""

import itertools
import math
from collections import Counter

import pytest
import torch

import flowmaps as fm
from flowmaps.data.vocabularies import one_hot
from flowmaps.evaluate.measures import draw
from flowmaps.evaluate.token_measures import known_words, token_measures

TABLE = torch.zeros(3, 3, dtype=torch.float64)
TABLE[0, 0] = TABLE[1, 1] = TABLE[2, 2] = 6 / 23
TABLE[0, 2], TABLE[2, 0] = 3 / 23, 2 / 23


def drawn(n, seed=0):
    words = torch.multinomial(TABLE.flatten(), n, replacement=True, generator=torch.Generator().manual_seed(seed))
    return torch.stack(torch.unravel_index(words, TABLE.shape), 1)


def test_total_variation_of_a_table():
    assert fm.evaluate.table_tv(torch.tensor([[0, 0]]), TABLE) == pytest.approx(17 / 23)
    exact = fm.evaluate.table_tv(drawn(20_000), TABLE)
    mean, spread = fm.evaluate.table_tv_floor(TABLE, 20_000, seed=1)
    assert abs(exact - mean) < 4 * spread and 0.003 < mean < 0.007
    x = one_hot(drawn(20_000), 3) + 0.3 * torch.randn(20_000, 2, 3, generator=torch.Generator().manual_seed(2)).clamp(
        -1, 1
    )
    assert fm.evaluate.table_tv(x, TABLE) == pytest.approx(exact)
    independent = torch.stack([drawn(20_000, 3)[:, 0], drawn(20_000, 4)[:, 1]], 1)
    # of the product of the marginals, with a standard error of about 0.004
    assert fm.evaluate.table_tv(independent, TABLE) == pytest.approx(0.44234, abs=0.015)


def test_total_variation_of_ngrams_equals_a_count_by_hand():
    g = torch.Generator().manual_seed(5)
    x, y = torch.randint(0, 7, (40, 6), generator=g), torch.randint(0, 7, (30, 9), generator=g) ** 2 % 7
    for n in (1, 2, 4):
        places = range(10 - n)
        grams = [[tuple(row[at : at + n]) for row in rows.tolist() for at in places] for rows in (x, y)]
        counted = [Counter(gram for gram in each if len(gram) == n) for each in grams]
        shares = [{gram: count / sum(each.values()) for gram, count in each.items()} for each in counted]
        expected = sum(abs(shares[0].get(gram, 0) - shares[1].get(gram, 0)) for gram in {*shares[0], *shares[1]}) / 2
        assert fm.evaluate.ngram_tv(x, one_hot(y, 7), n) == pytest.approx(expected)
    assert fm.evaluate.ngram_tv(x, x) == 0 and fm.evaluate.ngram_tv(x, x + 7) == pytest.approx(1)
    long = torch.randint(0, 50_000, (20, 30), generator=g)  # numbers of 4-grams far beyond 64 bits
    assert fm.evaluate.ngram_tv(long, long.flip(0)) == 0 and fm.evaluate.ngram_tv(long, long + 1) > 0.99


def test_entropy_of_the_tokens_of_a_row():
    rows = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 2, 3]])
    values = [0, math.log(2), math.log(4)]
    mean = sum(values) / 3
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 2 / 3)
    assert fm.evaluate.token_entropy(rows) == pytest.approx((mean, deviation))


def test_share_of_valid_words_and_its_standard_error():
    words = {"the", "word", "was"}
    assert fm.evaluate.valid_share(["the word", "wod, was!"], words) == pytest.approx((0.75, math.sqrt(0.125) / 2 / 1))
    assert fm.evaluate.valid_share(["e word was th", "he wor the"], words, cut=True)[0] == pytest.approx(2 / 3)
    assert math.isnan(fm.evaluate.valid_share([""], words).value)
    g, texts = torch.Generator().manual_seed(6), []
    for _ in range(4000):
        texts.append(" ".join("the" if torch.rand((), generator=g) < 0.8 else "x" for _ in range(3)))
    value, stderr = fm.evaluate.valid_share(texts, words)
    assert stderr == pytest.approx(math.sqrt(0.8 * 0.2 / 12_000), rel=0.05) and abs(value - 0.8) < 4 * stderr


def test_an_evaluation_of_a_text_has_floors_at_the_same_counts(tmp_path):
    text = " ".join("".join(word) for word in itertools.product("abc", repeat=3)) * 40
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    data = fm.data.text(tmp_path / "a.txt", 12)
    found = {measure.key: measure for measure in token_measures(data, draw(data, 64, 4, 0))}
    assert list(found) == ["distance", "ngram_tv_2", "token_entropy", "valid_words"]
    assert found["valid_words"].floor == (1, 0) and {"aab", "cba", "cccaaa"} <= known_words(data)
    real, wrong = data.held_out(256, seed=9).x0, torch.randn(256, *data.shape)
    for key in ("distance", "ngram_tv_2"):
        assert found[key].estimate(real).value < 1.5 * found[key].floor.value < found[key].estimate(wrong).value
    assert found["valid_words"].estimate(wrong).value < 0.5


def test_wrong_tokens_are_refused():
    x = drawn(5)
    for wrong, error, message in [
        (lambda: fm.evaluate.table_tv(x, TABLE * 2), ValueError, r"\(K, ..., K\) with sum 1"),
        (lambda: fm.evaluate.table_tv(x[:, :1], TABLE), ValueError, "words of 2 tokens 0..2, got samples of 1 tokens"),
        (lambda: fm.evaluate.table_tv(x + 2, TABLE), ValueError, "words of 2 tokens 0..2"),
        (lambda: fm.evaluate.ngram_tv(x, x, 3), ValueError, "n must be a whole number from 1 to 2, got 3"),
        (lambda: fm.evaluate.ngram_tv(x[:0], x, 1), ValueError, "got none"),
        (lambda: fm.evaluate.token_entropy(torch.zeros(3)), ValueError, r"tokens \(B, L\)"),
        (lambda: fm.evaluate.valid_share("the", {"the"}), TypeError, "a list of texts"),
    ]:
        with pytest.raises(error, match=message):
            wrong()
