"""Every error that reaches a person at the command line is a sentence with an exit code."""

import errno
import json
import os
import re
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import flowmaps as fm
from flowmaps import cli
from flowmaps.arguments import install
from flowmaps.cli import failures, main
from flowmaps.exact.solve import solve

FAST = ["--steps", "2", "--batch-size", "16", "--width", "8", "--depth", "1", "--no-progress-bar", "--trackers"]
MESSAGE = r"error: [^\n]{10,}\n"
"""One line, on which nothing looks like a traceback or an empty text."""


def told(monkeypatch, capsys, raise_it, *arguments):
    """The exit code and the message of a command in which something goes wrong."""
    monkeypatch.setattr(cli, "run", lambda options: raise_it())
    code = main(list(arguments or ("methods",)))
    text = capsys.readouterr().err
    assert re.fullmatch(MESSAGE, text), text
    return code, text.removeprefix("error: ").rstrip("\n")


def nested():
    return nested()


UNEXPECTED = [
    (
        lambda: {}["lost"],
        "unexpected KeyError: 'lost'. This is a fault of flowmaps, of a library",
    ),
    (lambda: [][3], "unexpected IndexError: list index out of range. This"),
    (lambda: None.shape, "unexpected AttributeError: 'NoneType' object has no attribute 'shape'. This"),
    (nested, "unexpected RecursionError: maximum recursion depth exceeded"),
    (lambda: 1 / 0, "unexpected ZeroDivisionError: division by zero. This"),
    (lambda: next(iter(())), "unexpected StopIteration. This"),
    (
        lambda: torch.zeros(2, 3) @ torch.zeros(2, 3),
        "unexpected RuntimeError: mat1 and mat2 shapes cannot be multiplied",
    ),
    (lambda: int("three"), "unexpected ValueError: invalid literal for int"),
    (lambda: len(3), "unexpected TypeError: object of type 'int' has no len"),
    (lambda: (_ for _ in ()).throw(AssertionError), "unexpected AssertionError. This"),
    (lambda: exec("raise OverflowError('too large')"), "unexpected OverflowError: too large. This"),
    (lambda: exec("raise NotImplementedError"), "unexpected NotImplementedError. This"),
]


@pytest.mark.parametrize(("raise_it", "message"), UNEXPECTED)
def test_an_unexpected_error_says_its_kind_its_text_and_the_way_to_see_more(monkeypatch, capsys, raise_it, message):
    code, text = told(monkeypatch, capsys, raise_it)
    assert code == 1 and text.startswith(message) and text.endswith("with --debug to see where")


def raising(error):
    def raise_it():
        raise error

    return raise_it


DAMAGED = "a file is damaged or of another kind: restore it from a copy "
NO_TEXT = "a text that should be UTF-8 is none, so its file is damaged or of another kind ("
EXTRA = f"digits need scikit-learn: {install('data')}"
MISSING = ModuleNotFoundError("No module named 'odd.part'", name="odd.part")
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.jsonl")

KNOWN = [
    (FloatingPointError("the loss is nan at step 5"), 1, "the loss is nan at step 5"),
    (PermissionError(13, "Permission denied", "runs/x"), 2, "runs/x cannot be used, permission denied"),
    (IsADirectoryError(21, "Is a directory", "runs"), 2, "runs cannot be used, is a directory"),
    (OSError(2, "No such file", "a", None, "b"), 2, "a and b cannot be used, no such file"),
    (FULL, 2, "metrics.jsonl cannot be used, no space left on device: free space, or choose another disk"),
    (OSError(errno.EIO, "Input/output error"), 2, "the system reports an error: input/output error"),
    (OSError("the batch of step 6 cannot be read"), 2, "the batch of step 6 cannot be read"),
    (ConnectionError("another process of this run has ended"), 2, "another process of this run has ended"),
    (MISSING, 2, "the package odd.part is not installed: pip install odd"),
    (ImportError(EXTRA), 2, EXTRA),
    (json.JSONDecodeError("Expecting value", "x", 0), 2, f"{DAMAGED}(JSONDecodeError: Expecting value: line 1 column"),
    (SafetensorError("header too large"), 2, f"{DAMAGED}(SafetensorError: header too large)"),
    (zipfile.BadZipFile("File is not a zip file"), 2, f"{DAMAGED}(BadZipFile: File is not a zip file)"),
    (EOFError(), 2, f"{DAMAGED}(EOFError: no text)"),
    (UnicodeDecodeError("utf-8", b"\x80", 0, 1, "invalid start byte"), 2, NO_TEXT),
]


@pytest.mark.parametrize(("error", "code", "message"), KNOWN)
def test_a_known_error_is_a_sentence(monkeypatch, capsys, error, code, message):
    found, text = told(monkeypatch, capsys, raising(error))
    assert found == code and text.startswith(message) and (text == message or "(" in text)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 4 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError(),
]


TRAINING = "a smaller --batch-size, a larger --accumulate"
WAYS = [
    (["train", "digits"], f"try {TRAINING}, a smaller --width, --checkpoint, --precision bf16"),
    (["sample", "runs/x"], "try fewer samples --n, fewer --particles of steered samples"),
    (["distill", "runs/x", "--method", "lmd"], TRAINING),
    (["posttrain", "runs/x", "--reward", "label:7"], TRAINING),
    (["report", "runs/x"], "close other programs, or use a machine with more memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
@pytest.mark.parametrize(("arguments", "advice"), WAYS)
def test_exhausted_memory_says_the_options_that_need_less(monkeypatch, capsys, error, arguments, advice):
    code, text = told(monkeypatch, capsys, raising(error), *arguments)
    assert code == 1 and "out of memory: " in text and advice in text
    assert ("the GPU" in text) == isinstance(error, torch.OutOfMemoryError)


def test_memory_that_cannot_be_had_is_exhausted_memory(monkeypatch, capsys):
    for allocate in (lambda: torch.empty(2**60, dtype=torch.uint8), lambda: np.empty(2**60, np.uint8)):
        code, text = told(monkeypatch, capsys, allocate)
        assert code == 1 and "out of memory" in text


def test_an_error_of_this_package_is_its_text(monkeypatch, capsys):
    code, text = told(monkeypatch, capsys, lambda: fm.sample(None, torch.zeros(2, 2), 0))
    assert code == 2 and text == "steps must be at least 1, got 0"
    code, text = told(monkeypatch, capsys, lambda: solve(lambda x, t: 1 / (t - 0.5), torch.zeros(1, 1), 1.0, 0.0))
    assert code == 1 and text.startswith("the ODE solve needs steps below")


@pytest.mark.parametrize("error", [KeyError("lost"), MemoryError(), RecursionError("deep"), ValueError("wrong")])
def test_debug_shows_the_traceback(monkeypatch, error):
    monkeypatch.setattr(cli, "run", lambda options: raising(error)())
    with pytest.raises(type(error)):
        main(["methods", "--debug"])


def test_an_error_of_the_parser_is_a_sentence_too(monkeypatch, capsys):
    monkeypatch.setattr(cli, "parse", lambda argv: {}["lost"])
    assert main(["methods"]) == 1
    assert "unexpected KeyError: 'lost'" in capsys.readouterr().err
    with pytest.raises(KeyError):
        main(["methods", "--debug"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "train digits --lr abc",
            "Error parsing --lr: could not convert string to float: 'abc'; flowmaps train",
        ),
        ("train digits --network foo", "invalid choice 'foo' for argument '--network'. Expected one of ('auto', 'mlp'"),
        ("train", "Missing from flowmaps train: DATA checkerboard, eight_gaussians"),
        ("train digits --steps", "Missing value for argument '--steps'. Expected 1 values; flowmaps train --help"),
        ("sample", "Missing from flowmaps sample: RUN The run folder; flowmaps sample --help explains the command"),
        ("sample runs/x --steps 1.5", "Error parsing --steps: invalid literal for int() with base 10: '1.5'; flowmaps"),
        ("evaluate runs/x -n 1.5", "Error parsing -n/--n: invalid literal for int() with base 10: '1.5'; flowmaps"),
        ("sample runs/x --noise a", "Error parsing --noise: could not convert string to float: 'a'; flowmaps sample"),
        (
            "sample runs/x --inpaint a",
            "Error parsing --inpaint: input length 1 did not match expected argument count 2",
        ),
        ("sample runs/x --deblur x a.png", "Error parsing --deblur: Could not parse arguments ['x', 'a.png'] into"),
        ("sample runs/x --steer fmt", "invalid choice 'fmt' for argument '--steer'. Expected one of ('auto', "),
        ("evaluate runs/x y", "Unrecognized options: y; flowmaps evaluate --help explains the command"),
    ],
)
@pytest.mark.parametrize("boxes", [True, False])
def test_a_wrong_word_is_one_line(words, sentence, boxes, capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stdout), "encoding", "utf-8" if boxes else "ascii", raising=False)
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {sentence}") and said.count("\n") == 1 and not set("╭│╰─") & set(said)


def test_a_long_text_of_a_library_is_cut(monkeypatch, capsys):
    _, text = told(monkeypatch, capsys, raising(KeyError("x" * 10_000)))
    assert len(text) < failures.LONGEST + 200


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "board"
    assert main(["train", "checkerboard", "--out", str(out), "--sample-every", "0", *FAST]) == 0
    return out


def real(capsys, *arguments):
    """The exit code and the message of a real command."""
    code = main(list(map(str, arguments)))
    text = capsys.readouterr().err
    assert "Traceback" not in text and text.count("error: ") == 1
    return code, text.partition("error: ")[2]


@pytest.mark.parametrize("content", [b"\x80\x81", b"{", b"[" * 100_000, b"[]", b"", b"null", b'{"format": 2}'])
def test_a_damaged_configuration(capsys, board, tmp_path, content):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_bytes(content)
    for command in ("sample", "evaluate", "report"):
        code, _ = real(capsys, command, run)
        assert code in (1, 2)


def test_real_wrong_inputs(capsys, board, tmp_path):
    text = tmp_path / "rows.npy"
    text.write_text("not an array")
    assert real(capsys, "train", text, "--out", tmp_path / "run", *FAST)[0] == 2
    folder = tmp_path / "folder.npy"
    folder.mkdir()
    code, message = real(capsys, "sample", board, "-o", folder)
    assert code == 2 and message == f"{folder} cannot be used, is a directory\n"
    below = tmp_path / "file"
    below.write_text("")
    code, message = real(capsys, "sample", board, "-o", below / "x.npy")
    assert code == 2 and "cannot be used" in message
    assert real(capsys, "sample", board, "--seed", "-1")[0] == 2
    assert real(capsys, "sample", board, "--seed", str(2**64))[0] == 2


CLOSED = {"stdout": ["methods", "--json"], "table": ["methods"], "explain": ["explain", "imf"]}


@pytest.mark.slow
@pytest.mark.parametrize("arguments", CLOSED.values(), ids=CLOSED)
def test_a_reader_that_goes_away_ends_the_command_silently(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flowmaps", *arguments]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.slow
def test_a_reader_of_messages_that_goes_away_ends_the_command_silently(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flowmaps", "sample", str(tmp_path / "none")]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, text=True)
    os.close(writer)
    assert (ended.returncode, ended.stdout) == (2, "")


def test_a_pipe_of_something_else_is_an_error(monkeypatch, capsys):
    code, text = told(monkeypatch, capsys, raising(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    assert code == 2 and text == "the system reports an error: broken pipe"


@pytest.mark.slow
def test_without_the_packages_of_the_command_line_it_says_which(tmp_path):
    (tmp_path / "tyro.py").write_text("raise ImportError('no', name='tyro')\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "flowmaps", "methods"]
    ended = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert ended.returncode == 2
    assert ended.stderr == 'error: the command line needs tyro: pip install ".[train]" in a clone of flowmaps\n'


def test_a_warning_is_said_once_from_whichever_line_it_comes(monkeypatch, capsys):
    def work(options):
        for level in (1, 2, 1):
            warnings.warn("config.json has changed", stacklevel=level)
        warnings.warn("step 4 is damaged", stacklevel=1)

    monkeypatch.setattr(cli, "run", work)
    assert main(["methods"]) == 0
    assert capsys.readouterr().err == "warning: config.json has changed\nwarning: step 4 is damaged\n"
