"""A malformed config.json or evaluation.json: every entry is tried with wrong values, and each ends in one sentence."""

import copy
import json

import pytest

import flowmaps as fm
from flowmaps.export.card import _measured
from flowmaps.figures import words
from flowmaps.figures.guidance import summary
from flowmaps.files import sealed
from flowmaps.reports import guidance, tables
from flowmaps.runs.checkpoint_reading import read_state
from flowmaps.runs.folder import read_config
from flowmaps.runs.records import read_evaluation, read_metrics

DELETED = object()
WRONG = {
    "nothing": None, "truth": True, "negative": -1, "zero": 0, "large": 10**9, "huge": 10**30, "nan": float("nan"),
    "text": "x", "lists": [[]], "empty object": {}, "a class": {"type": "x"}, "a tensor": {"tensor": [10**12]},
    "texts": ["x", "x", "x"], "deleted": DELETED,
}  # fmt: skip


def places(document, place=()):
    """All places in a document, as keys and indices."""
    yield place
    parts = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in parts:
        yield from places(value, (*place, key))


def put(document, place, value):
    """A copy of a document with another value at a place."""
    if not place:
        return value
    document = copy.deepcopy(document)
    at = document
    for key in place[:-1]:
        at = at[key]
    if value is DELETED:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return document


def tried(document, file, wrong, use, skipped=()):
    """Write a wrong value into each place. Returns messages that do not name file and entry, and the number of all."""
    bad, refusals = [], 0
    for place in places(document):
        if (wrong is DELETED and not place) or (skipped and place[: len(skipped)] == skipped):
            continue
        file.write_text(json.dumps(put(document, place, wrong)))
        try:
            use()
        except ValueError as error:
            message, names = str(error), [key for key in place if isinstance(key, str)]
            refusals += 1
            if "\n" in message or str(file) not in message or (names and not any(name in message for name in names)):
                bad.append((place, message))
        except Exception as error:
            bad.append((place, repr(error)))
    return bad, refusals


@pytest.mark.slow
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_each_entry_of_a_config_is_checked(wrong, stranger):
    def use():
        fm.experiments.sample(stranger.run, n=2, guidance=1.5)

    def partial(error):
        return "partial flow map" in error or "does not know the null class" in error  # a sentence about a valid config

    bad, refusals = tried(stranger.config, stranger.run / "config.json", wrong, use, skipped=("method", "terms"))
    assert [(place, error) for place, error in bad if not partial(error)] == [] and refusals > 10


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_each_entry_of_a_config_of_version_0_1_is_checked(wrong, stranger):
    config = stranger.config
    config = {
        **config,
        "format": 1,
        "flow": {**config["flow"], "guided": "ClassifierFree, scale 1:3, between times 0 and 1"},
    }
    changes = [{"type": "flowmaps.data.changes:WithGuidance", "arguments": {"low": 1.0, "high": 3.0}}]
    config["data"]["changes"] += changes
    file = stranger.run / "config.json"
    bad, refusals = tried(config, file, wrong, lambda: read_config(stranger.run), skipped=("method", "terms"))
    assert bad == [] and refusals > 10


NUMBERS = {"distance": 1.5, "accuracy": 0.5, "diversity": 2.0}
ROW = {"sampler": "jump", "steps": 1, "distance": 1.0, "stderr": 0.1, "seconds_per_sample": 1e-5, "network_calls": 1}
GUIDED = {"sampler": "euler", "steps": 2, "scale": 2.0, "seconds_per_sample": 1e-5, "network_calls": 2}
GUIDED |= {f"{name}{end}": value for name, value in NUMBERS.items() for end in ("", "_stderr")}
EVALUATION = {
    "metric": "a distance", "floor": 0.1, "floor_stderr": 0.01, "step": 2, "samples": 8, "device": "cpu",
    "rows": [{**ROW, "copies": 0.1, "copies_stderr": 0.0}, {**ROW, "copies": None, "copies_stderr": None}],
    "copies_floor": 0.0, "copies_floor_stderr": 0.0, "measures": {"distance": "a distance", "copies": "copies"},
    "guidance": {
        "scales": None, "interval": [0.0, 1.0], "steps": 2, "reference": None, "rows": [GUIDED],
        "data": {name: value for name, value in GUIDED.items() if name.startswith(tuple(NUMBERS))},
        "measures": dict.fromkeys(NUMBERS, "a measure"),
    },
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_each_entry_of_an_evaluation_is_checked(wrong, stranger):
    """Whatever is read can be written into a report and a card."""

    def use():
        found = read_evaluation(stranger.run)
        if found is None:
            return
        tables.quality(found), tables.others(found), tables.errors(found), _measured(found)
        words.headline(found, "images"), words.explanation(found)
        if "guidance" in found:
            guidance.table(found["guidance"]), summary(found["guidance"])

    bad, refusals = tried(EVALUATION, stranger.run / "evaluation.json", wrong, use)
    assert bad == [] and refusals > 3


def test_the_evaluation_above_is_read_as_it_is(stranger):
    (stranger.run / "evaluation.json").write_text(json.dumps(EVALUATION))
    assert read_evaluation(stranger.run) == EVALUATION


@pytest.mark.parametrize(
    "line", ["3", "[]", "null", "{}", '{"step": 1}', '{"step": "1", "loss": 1.0, "seconds": 0.0}', "[" * 10**5]
)
def test_each_line_of_the_metrics_is_checked(line, stranger):
    (stranger.run / "metrics.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl") as error:
        read_metrics(stranger.run)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "evaluation.json", "checkpoints/step_00000002/state.json"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[" * 100_000, "more than 100 lists and objects inside one another"),
        (b"[" * 200 + b"]" * 200, "more than 100 lists and objects inside one another"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "more than 100 lists and objects inside one another"),
        (b" " * (64 * 2**20 + 1), "a JSON file of at most"),
        (b"\xff\xfe", "codec can't decode"),
        (b"1" * 5000, "integer string conversion"),
        (b"\x80\x04\x95", "codec can't decode"),
        (b"", "Expecting value"),
    ],
    ids=["deep", "closed", "objects", "large", "bytes", "digits", "pickle", "empty"],
)
def test_deep_or_large_json_is_one_sentence(name, content, said, stranger):
    (stranger.run / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_evaluation(stranger.run) if name == "evaluation.json" else fm.load(stranger.run)
    assert name.rpartition("/")[2] in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../flow.safetensors", "/etc/passwd", "a/../../b", "", ".hidden", "shards/../x"])
def test_a_checkpoint_names_no_file_outside_of_it(name, stranger):
    path = stranger.run / "checkpoints" / "step_00000002"
    state = json.loads((path / "state.json").read_text())
    state.pop("checksum")
    state["files"][name] = "0" * 64
    (path / "state.json").write_text(json.dumps(sealed(state)))
    with pytest.raises(ValueError, match="is not the name of a file of it"):
        read_state(path)
