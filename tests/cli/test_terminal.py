"""The command line in a terminal: help, hints for words that do not exist, the table of methods."""

import dataclasses
import io
import re
import warnings

import pytest
from rich.console import Console

import flowmaps as fm
from flowmaps.cli import BY_NAME, landscape, main
from flowmaps.cli.help import ADVANCED, GROUPS, options_of
from flowmaps.cli.tables import as_data_options

NAMES = tuple(BY_NAME)


def said(capsys, *words, code=0):
    """The output of a command that ends in the parser."""
    with pytest.raises(SystemExit) as left:
        main(list(words))
    assert (left.value.code or 0) == code
    return capsys.readouterr().out


def refused(capsys, *words):
    assert main(list(words)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", NAMES)
def test_a_help_has_every_option_once_in_whole_words(name, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    text = said(capsys, name, "--help-all")
    kind = BY_NAME[name]
    words = set(text.split())
    for option in options_of(kind):
        assert len(re.findall(rf"^  {re.escape(option.typed)}(?= |$)", text, re.M)) == 1, option.name
        assert set(option.text.split()) <= words, option.name
    defaults = [field for field in dataclasses.fields(kind) if field.default is not dataclasses.MISSING]
    positional = sum(option.positional for option in options_of(kind))
    assert " ".join(text.split()).count("(default:") >= len(defaults) - positional


@pytest.mark.parametrize("name", NAMES)
def test_lines_fit_the_terminal(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    lines = [line for line in said(capsys, name, "--help-all").splitlines() if not line.startswith("Example:")]
    assert max(map(len, lines)) <= 80


def test_the_help_of_train_has_groups_and_folds_the_advanced_options(capsys):
    text, whole = said(capsys, "train", "--help"), said(capsys, "train", "--help-all")
    titles = [line for line in text.splitlines() if re.fullmatch(r"[a-z ]+:", line)]
    assert titles == ["what:", "how long:", "network:", "guidance:", "saving:"]
    assert "advanced, with flowmaps train --help-all:" in text and "\nadvanced:" in whole
    assert "  --timeout" not in text and "  --timeout FLOAT" in whole
    assert text.index("  --method ") < text.index("  --steps ") < text.index("  --network ") < text.index("  --out,")


def test_a_new_option_has_a_place_without_being_named():
    named = [name for names in GROUPS.values() for name in names]
    assert len(named) == len(set(named)) and not set(named) & set(ADVANCED)
    known = {field.name for kind in BY_NAME.values() for field in dataclasses.fields(kind)}
    assert set(named) | set(ADVANCED) <= known


def test_the_recipe_of_plan_is_optional(capsys):
    assert said(capsys, "plan", "-h").startswith("usage: flowmaps plan [RECIPE] [options]")
    assert said(capsys, "train", "-h").startswith("usage: flowmaps train DATA [options]")


def test_the_help_of_the_program_lists_the_commands(capsys):
    text = said(capsys, "--help")
    assert all(f"\n  {name} " in text for name in NAMES)
    assert said(capsys, code=2) == text


def test_the_versions(capsys):
    versions = fm.runs.folder.versions()
    assert said(capsys, "--version").startswith(f"flowmaps {versions['flowmaps']}, torch {versions['torch']}")


@pytest.mark.parametrize(("word", "near"), [("trian", "train"), ("evaluat", "evaluate"), ("method", "methods")])
def test_an_unknown_command_gets_the_nearest(word, near, capsys):
    text = refused(capsys, word, "x")
    assert f"unknown command '{word}' (did you mean {near}" in text and "Traceback" not in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train x --stepps 3", "train has no option --stepps (did you mean --steps?)"),
        ("train x --stepps=3", "train has no option --stepps (did you mean --steps?)"),
        ("train x --batch_sizes 3", "(did you mean --batch-size?)"),
        ("train x --value-range 0 1", "write --data-args value_range=VALUE"),
        ("train x --no-captions", "train has no option --no-captions: write --data-args captions=False"),
        ("compare x --layout rows", "write --data-args layout=VALUE"),
        ("train x --diagonal 0.5", "write --method-args diagonal=VALUE"),
        ("sample x --value-range 0 1", "sample has no option --value-range; flowmaps sample --help"),
    ],
)
def test_an_unknown_option_gets_the_nearest_or_its_place(words, message, capsys):
    assert message in refused(capsys, *words.split())


def test_underscores_and_negations_are_options(tmp_path):
    run = ["train", "checkerboard", "--batch_size", "8", "--no-progress-bar", "--steps=1", "--out", str(tmp_path / "a")]
    assert main([*run, "--width", "8", "--depth", "1", "--sample-every", "0", "--trackers"]) == 0


@pytest.mark.parametrize(
    ("words", "standardised"),
    [
        ([], True),
        (["--standardise"], True),
        (["--no-standardise"], False),
        (["--data-args", "standardise=False"], False),
        (["--no-standardise", "--data-args", "columns=a"], False),
    ],
)
def test_both_spellings_keep_the_numbers_of_a_table(words, standardised, tmp_path, capsys):
    rows = "\n".join(f"{1000 + row % 7},{row % 5}" for row in range(60))
    (tmp_path / "table.csv").write_text(f"a,b\n{rows}\n")
    run = ["train", str(tmp_path / "table.csv"), "--out", str(tmp_path / "run"), "--steps", "1", "--no-progress-bar"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([*run, "--width", "8", "--depth", "1", "--sample-every", "0", "--trackers", *words]) == 0
    assert (fm.load(tmp_path / "run").units is not None) is standardised


@pytest.mark.parametrize("command", ["train", "distill", "posttrain", "compare"])
def test_the_help_shows_both_spellings(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--standardise, --no-standardise" in text and "--data-args standardise=False" in text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("pass value_range=(low, high), or x", 'pass --data-args "value_range=(low, high)", or x'),
        ('or kind="vectors"', "or --data-args kind=vectors"),
        ("give `layout=rows`.", "give --data-args layout=rows."),
        ("recipe.value_range=3", "recipe.value_range=3"),
    ],
)
def test_options_of_data_are_written_for_the_shell(message, expected):
    assert as_data_options(message, ["value_range", "kind", "layout"]) == expected


def test_a_column_of_labels_is_named_for_the_shell(tmp_path, capsys):
    """`--labels` is another option, so the message says where the column goes."""
    rows = "\n".join(f"{row / 7:.2f},{'a' if row == 30 else row % 2}" for row in range(60))
    (tmp_path / "table.csv").write_text(f"height,kind\n{rows}\n")
    text = refused(capsys, "train", str(tmp_path / "table.csv"), "--out", str(tmp_path / "run"))
    assert "pass --data-args labels=kind if" in text and "or --data-args" in text
    assert as_data_options("or labels=False, labels=3", ["layout"], ["labels"]) == "or labels=False, labels=3"


def test_an_error_about_data_names_the_option_of_the_shell(tmp_path, capsys):
    import numpy as np

    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 1, 8, 8)) * 1e4)
    text = refused(capsys, "train", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"))
    assert "value_range=" not in text.replace('--data-args "value_range=', "")


@pytest.mark.parametrize("width", [80, 100, 149, 150, 240])
def test_the_table_of_methods_has_whole_words(width):
    columns = tuple(landscape.COLUMNS) if width >= landscape.WIDE else landscape.NARROW
    console = Console(width=width, file=io.StringIO())
    console.print(landscape.landscape_table(columns))
    text = console.file.getvalue()
    assert len(text.splitlines()) < 130
    words = set(text.split())
    for row in fm.methods.LANDSCAPE:
        assert row.name in words and set(row.notes.split()) <= {word.rstrip(";") for word in words} | words, row.name
    assert ("reference" in words) == (width >= landscape.WIDE)


def test_a_narrow_terminal_gets_the_narrow_table(monkeypatch, capsys):
    monkeypatch.setattr(landscape, "Console", lambda **given: Console(**{"width": 80, "force_terminal": True, **given}))
    assert main(["methods"]) == 0
    text = capsys.readouterr().out
    assert "All columns:" in text and "reference" not in text
    monkeypatch.setattr(landscape, "Console", Console)
    assert main(["methods"]) == 0
    assert "reference" in capsys.readouterr().out
