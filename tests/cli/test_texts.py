"""Runs on texts from the command line: training, texts of samples, templates, refusals; slow: evaluation and report."""

import json
import math
import pydoc_data.topics
import re

import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.data import Characters, letters_only
from flowmaps.experiments.sample_files import lines_of
from flowmaps.runs.folder import read_config

TINY = ["--steps", "2", "--batch-size", "8", "--width", "16", "--depth", "1", "--no-progress-bar", "--trackers"]
TEXT = letters_only(" ".join(pydoc_data.topics.topics.values()))[:60_000]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a text and a run on it, which made two steps."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "python.txt").write_text(TEXT, encoding="utf-8")
    arguments = ["train", f"text:{folder / 'python.txt'}", "--data-args", "length=12", "--out", str(folder / "run")]
    assert main([*arguments, *TINY]) == 0
    return folder


def test_a_run_holds_its_vocabulary_and_samples_are_texts(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    config = read_config("run")
    vocabulary = Characters("".join(sorted(set(TEXT))))
    assert config["method"]["name"] == "dfm_psd" and config["data"]["kind"] == "tokens"
    assert config["data"]["vocabulary"]["arguments"]["symbols"] == vocabulary.symbols
    assert main(["sample", "run", "-n", "20", "--seed", "3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    lines = (folder / "samples.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 20 and printed == lines[:16]
    x = fm.experiments.sample("run", n=20, seed=3)
    assert vocabulary.decode(x) == lines == lines_of(x, config)
    torch.testing.assert_close(x.sum(-1), torch.ones(20, 12))
    assert isinstance(fm.load("run").network, fm.networks.TokenTransformer)


def test_a_likelihood_is_in_nats_a_token_and_bits_a_character(folder, capsys, monkeypatch):
    """After two steps the bound is about the one of equal probabilities: 200 times the square error, and log 27."""
    monkeypatch.chdir(folder)
    assert main(["likelihood", "run", "-n", "40", "--by", "tokens:8"]) == 0
    printed = capsys.readouterr().out
    assert "nats per token" in printed
    nats, bits = re.search(r"held-out, tokens:8: at most ([\d.]+) .* token, ([\d.]+) .* bits", printed).groups()
    assert float(bits) == pytest.approx(float(nats) / math.log(2), abs=1e-3)
    assert float(nats) == pytest.approx(200 * 26 / 27 + math.log(27), rel=0.2)


def test_a_template_is_completed(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert main(["sample", "run", "--infill", "the __e", "--steps", "4", "--particles", "8", "-n", "3"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3 and all(re.fullmatch("the ..e.{5}", line) for line in printed)


def test_what_fits_no_text_is_refused_in_one_sentence(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "other.txt").write_text(TEXT.replace("q", "Q"), encoding="utf-8")
    (folder / "latin.txt").write_bytes(b"d\xe9j\xe0")
    for words, message in [
        ("sample run -o a.png", "samples of this run are tokens, and cannot be written as .png: write them to a .txt"),
        ("sample run --inpaint a.png held-out:1", "samples of run are tokens of shape (12, 27): --infill fills gaps"),
        ("sample run --infill thé", "1 of 3 characters are none of the 27 symbols"),
        ("sample run --infill a --reward label:1", "steering needs one of"),
        ("likelihood run --by ode:4", "tokens, python, which have probabilities and no density, so ode:4 is not"),
        ("export run there", "an export is of images, points and vectors, and the rows of this run are tokens"),
        ("posttrain run --reward label:1", "token"),
        ("train text:nowhere.txt", "there is no text file"),
        ("train text:latin.txt", "2 of its 4 bytes are wrong, the first 0xe9 at offset 1"),
        ("train python.txt", 'a text is written "text:python.txt"'),
        ("train digits --network transformer", "--network transformer is for tokens"),
        (
            "train text:other.txt --data-args length=12 --start run --out new",
            "the tokens of other differ from the ones of run: load the text",
        ),
        ("train text:python.txt --data-args length=12 standardise=True --out new", "which are not standardised"),
    ]:
        assert main(words.split()) != 0
        said = capsys.readouterr().err
        assert message in " ".join(said.split()), (words, said)


@pytest.mark.slow
def test_a_text_is_trained_sampled_evaluated_and_reported_from_the_shell(folder, capsys, monkeypatch):
    """A few seconds teach the frequencies of letters: the distance of 2-grams falls below the one of noise."""
    monkeypatch.chdir(folder)
    words = "train text:python.txt --data-args length=12 --method dfm_psd --steps 300 --width 32 --depth 1 --out longer"
    assert main([*words.split(), "--batch-size", "64", "--ema", "0.9", "--no-progress-bar", "--trackers"]) == 0
    capsys.readouterr()
    assert main("evaluate longer --n 256 --steps 1 2 --ode-steps 4 --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["measures"]) == {"distance", "ngram_tv_2", "token_entropy", "valid_words"}
    first = found["rows"][0]
    assert found["floor"] < first["distance"] < 1 and first["ngram_tv_2"] < 0.6
    assert 0 < first["valid_words"] <= 1 and found["valid_words_floor"] > 0.8
    assert main(["evaluate", "longer", "--quick"]) == 0
    table = capsys.readouterr().out
    assert "total variation of 4-grams" in table and re.search(r"real data +0\.\d+", table)
    assert main(["report", "longer"]) == 0
    page = (folder / "longer" / "report.html").read_text(encoding="utf-8")
    assert "held-out data" in page and "8 jumps" in page and "More steps, better texts?" in page
    assert any(row in page for row in TEXT[-6000:].split())
