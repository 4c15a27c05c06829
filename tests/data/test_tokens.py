"""Tokens and texts as one-hot rows: reading, splits, vocabularies, reading again, refusals."""

import gzip

import pytest
import torch

import flowmaps as fm
from flowmaps.data import Bytes, Characters, Tokenizer, load
from flowmaps.data.load import load_again
from flowmaps.data.vocabularies import letters_only
from flowmaps.runs.contents import contents
from flowmaps.serialise import build, describe

TEXT = "in the beginning was the word, and the word was good. " * 20


@pytest.fixture
def path(tmp_path):
    (tmp_path / "words.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path / "words.txt"


def test_rows_are_one_hot_and_come_back_as_tokens():
    table = torch.tensor([[0, 2], [1, 1], [2, 0], [0, 1], [2, 2]])
    data = fm.data.tokens(table.numpy(), 3, label=[0, 1, 0, 1, 1])
    assert (data.kind, data.shape, data.size, data.classes) == ("tokens", (2, 3), 4, 2)
    batch = data.draw(4)
    x = torch.cat([batch.x0, data.held_out(9).x0])
    assert x.dtype == torch.get_default_dtype() and torch.equal(x.sum(-1), torch.ones(5, 2))
    assert sorted(fm.data.tokens_of(x).tolist()) == sorted(table.tolist())
    assert batch.label is not None and data.std == pytest.approx(2**0.5 / 3)
    assert data.std == pytest.approx(float(x.std(correction=0)), rel=1e-6)


def test_windows_of_a_text_are_its_windows_and_the_end_is_held_out(path):
    data = fm.data.text(path, 16, held_out=0.25)
    train, held = (data.vocabulary.decode(rows.x0) for rows in (data.draw(data.size), data.held_out(10**6)))
    border = len(TEXT) - round(0.25 * len(TEXT))
    assert sorted(train) == sorted(TEXT[at : at + 16] for at in range(border - 15))
    assert sorted(held) == sorted(TEXT[at : at + 16] for at in range(border, len(TEXT) - 15))
    assert data.vocabulary == Characters("".join(sorted(set(TEXT)))) and data.shape == (16, len(set(TEXT)))
    assert fm.data.text(path, 16, stride=16, held_out=0).size == len(TEXT) // 16


@pytest.mark.parametrize(
    ("vocabulary", "expected"),
    [
        ("bytes", Bytes(tuple(sorted(set(TEXT.encode()))))),
        ("letters", Characters("abcdefghijklmnopqrstuvwxyz ")),
        ("".join(sorted(set(TEXT)))[::-1], Characters("".join(sorted(set(TEXT)))[::-1])),
    ],
)
def test_a_text_is_read_again_with_the_same_tokens(path, vocabulary, expected):
    first = load(f"text:{path}", length=8, vocabulary=vocabulary, allow_unused=vocabulary == "letters")
    assert first.vocabulary == expected and build(describe(expected)) == expected
    again = load_again(first.recipe, "config.json: data.recipe")
    assert again.vocabulary == expected and torch.equal(again.draw(9, seed=3).x0, first.draw(9, seed=3).x0)
    assert contents(again) == contents(first)
    path.write_text(TEXT + "in" * 3, encoding="utf-8")
    assert contents(load_again(first.recipe, "")) != contents(first)
    text = letters_only(TEXT) if vocabulary == "letters" else TEXT
    assert all(row in text for row in first.vocabulary.decode(first.draw(50).x0))
    assert first.vocabulary.decode(first.vocabulary.encode("the word")[None]) == ["the word"]


def test_lines_are_padded_rows_and_a_packed_file_is_unpacked(tmp_path):
    with gzip.open(tmp_path / "names.gz", "wt") as file:
        file.write("ann\r\nbo\n\nchloe\nanna\n")
    data = fm.data.text(tmp_path / "names.gz", 5, rows="lines")
    assert data.vocabulary == Characters("abcehlno\n", padded=True) and data.vocabulary.padding == 8
    found = data.vocabulary.decode(torch.cat([data.draw(3).x0, data.held_out(9).x0]))
    assert sorted(found) == ["ann", "anna", "bo", "chloe"]
    again = load_again(data.recipe, "")
    assert again.vocabulary == data.vocabulary and torch.equal(again.draw(3).x0, data.draw(3).x0)
    with pytest.raises(ValueError, match="1 of the 4 lines .* more than 4 characters, the longest 5: pass length=5"):
        fm.data.text(tmp_path / "names.gz", 4, rows="lines")
    with pytest.raises(ValueError, match="needs a vocabulary of characters"):
        fm.data.text(tmp_path / "names.gz", 5, "bytes", rows="lines")


class Words:
    """A tokenizer with the two methods that are used of one of Hugging Face."""

    name_or_path = "words"
    known = ("<s>", "in", "the", "word", "beginning", "never", "was", "and", "good", ",", ".")

    def encode(self, text, add_special_tokens):
        assert not add_special_tokens
        return [self.known.index(word) for word in text.replace(",", " ,").replace(".", " .").split()]

    def decode(self, ids):
        return " ".join(self.known[number] for number in ids)


def test_of_a_tokenizer_the_tokens_that_occur_are_numbered(path):
    data = fm.data.text(path, 4, Words())
    assert data.vocabulary == Tokenizer("words", (1, 2, 3, 4, 6, 7, 8, 9, 10)) and data.shape == (4, 9)
    assert data.recipe is None
    assert "the word , and" in data.vocabulary.decode(data.draw(data.size).x0)
    with pytest.raises(ValueError, match="1 of 2 tokens are none of the 9 .* the first 'never'"):
        data.vocabulary.encode("word never")


def test_four_million_characters_stay_whole_numbers(tmp_path):
    (tmp_path / "long.txt").write_text("abcd" * 10**6, encoding="utf-8")
    data = fm.data.text(tmp_path / "long.txt", 32)
    rows = data.source.train
    assert rows.tokens.dtype == torch.uint8 and rows.tokens.numel() < 4 * 10**6 and data.size > 3.5 * 10**6
    assert next(data.batches(64)).x0.shape == (64, 32, 4)


def test_wrong_tokens_are_refused():
    rows = [[0, 1], [2, 1]]
    for wrong, error, message in [
        (lambda: fm.data.tokens([[0, 3]], 3), ValueError, r"in 0\.\.2; 1 of 2 do not, they reach from 0 to 3"),
        (lambda: fm.data.tokens([[0, -1]]), ValueError, r"they reach from -1 to 0"),
        (lambda: fm.data.tokens(rows, 5), ValueError, "2 of the 5 tokens never occur in the tokens, the first is 3"),
        (lambda: fm.data.tokens([[0.5, 1]]), TypeError, "whole numbers, got torch.float32"),
        (lambda: fm.data.tokens([[0, 1], [1]]), TypeError, "of one length"),
        (lambda: fm.data.tokens([]), ValueError, "at least one token"),
        (lambda: fm.data.tokens([0, 1]), ValueError, r"shape \(2,\): a text becomes rows by fm.data.text"),
        (lambda: fm.data.tokens(rows, vocabulary=Characters("ab")), ValueError, r"in 0\.\.1; 1 of 4"),
        (lambda: fm.data.tokens(rows, 4, vocabulary=Characters("abc")), ValueError, "has 3 tokens, and K is 4"),
        (lambda: fm.data.as_data(torch.tensor(rows)), ValueError, "given by fm.data.tokens"),
        (lambda: fm.data.as_data(fm.data.tokens(rows), standardise=True), ValueError, "which are not standardised"),
        (lambda: Characters("aba"), ValueError, "'a' is there twice"),
        (lambda: Characters("ab").decode(torch.zeros(2, 3, 4)), ValueError, r"rows \(B, L, 2\) .* shape \(2, 3, 4\)"),
    ]:
        with pytest.raises(error, match=message):
            wrong()
    assert fm.data.tokens(rows, 5, allow_unused=True).shape == (2, 5)


def test_wrong_texts_are_refused(tmp_path, path):
    def file(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    latin = file("latin.txt", b"caf\xe9 d\xe9j\xe0 vu")
    for wrong, error, message in [
        (lambda: fm.data.text(file("empty.txt", b" \n"), 4), ValueError, "holds no text"),
        (lambda: fm.data.text(latin, 4), ValueError, "3 of its 12 bytes are wrong, the first 0xe9 at offset 3"),
        (lambda: fm.data.text(latin, 40, encoding="latin-1"), ValueError, "too few for a window of 40"),
        (lambda: fm.data.text(path, 8, encoding="no"), ValueError, "no encoding 'no'"),
        (lambda: fm.data.text(path, 8, "abcdefghijklm"), ValueError, "does not fit .* characters are none of the 13"),
        (lambda: fm.data.text(path, 8, "letters"), ValueError, "of the 27 tokens never occur"),
        (lambda: fm.data.text(path, 8, 3), TypeError, 'a vocabulary is "characters"'),
        (lambda: fm.data.text(path, 8, rows="line"), ValueError, "windows or lines, got 'line' .did you mean lines"),
        (lambda: fm.data.text(path, 8, held_out=1), ValueError, "too few for a window of 8"),
        (lambda: fm.data.text(file("bad.gz", b"no"), 8), ValueError, "cannot be unpacked"),
        (lambda: load("text:nowhere.txt"), FileNotFoundError, "no text file nowhere.txt"),
        (lambda: load(str(path)), ValueError, 'a text is written "text:'),
        (lambda: load(f"text:{path}", size=3), TypeError, 'takes no option "size"'),
    ]:
        with pytest.raises(error, match=message):
            wrong()
