"""The record of steered samples, as a file of a stranger: checked entry by entry, and its picture encoded anew."""

import copy
import hashlib
import json
from io import BytesIO

import pytest
from PIL import Image, PngImagePlugin

from flowmaps.runs.steering_record import read_steered_record, write_steered_record

RECORD = {
    "step": 3, "method": "particles", "steps": 50, "samples": 9, "particles": 64, "target": "label:7",
    "command": "flowmaps sample run", "numbers": {"reward": -1.5, "spread": 0.25, "ess": 0.5, "log_z": -2.0, "kl": 0.5},
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A folder with a record and a picture, which has a text too."""
    note = PngImagePlugin.PngInfo()
    note.add_text("comment", "secret")
    Image.new("RGB", (4, 3), "red").save(tmp_path / "steered.png", pnginfo=note)
    write_steered_record(tmp_path, RECORD, True)
    return tmp_path


def test_a_record_comes_back_with_the_pixels_of_its_picture(run):
    record, picture = read_steered_record(run)
    assert {name: record[name] for name in RECORD} == RECORD
    image = Image.open(BytesIO(picture))
    assert image.size == (4, 3) and image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert b"secret" in (run / "steered.png").read_bytes() and b"secret" not in picture


def test_without_a_record_or_a_picture(tmp_path):
    assert read_steered_record(tmp_path) is None
    write_steered_record(tmp_path, RECORD, False)
    assert read_steered_record(tmp_path)[1] is None


def test_a_changed_record_is_left_out_with_a_warning(run):
    text = (run / "steered.json").read_text()
    (run / "steered.json").write_text(text.replace("-1.5", "-0.5"))
    with pytest.warns(UserWarning, match="steered.json has changed since it was written"):
        assert read_steered_record(run) is None


@pytest.mark.parametrize("content", [None, b"no picture", b"\x89PNG\r\n\x1a\n", "other"])
def test_another_picture_is_left_out_with_a_warning(run, content):
    if content is None:
        (run / "steered.png").unlink()
    elif content == "other":
        Image.new("RGB", (4, 3), "blue").save(run / "steered.png")
    else:  # of a stranger, who also writes the digest
        (run / "steered.png").write_bytes(content)
        record = json.loads((run / "steered.json").read_text())
        del record["checksum"]
        (run / "steered.json").write_text(json.dumps({**record, "picture": hashlib.sha256(content).hexdigest()}))
    with pytest.warns(UserWarning, match="steered.png is not the picture of the record"):
        assert read_steered_record(run)[1] is None


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *[((name,), None) for name in ("step", "method", "steps", "samples", "target", "numbers")],
        *[((name,), [1]) for name in RECORD],
        (("picture",), 3),
        (("steps",), 10**9),
        (("samples",), -1),
        (("target",), "x" * 5000),
        (("command",), "x" * 5000),
        (("numbers", "reward"), "high"),
        (("numbers", "spread"), float("nan")),
        (("numbers", "ess"), float("inf")),
        (("numbers", "other"), {}),
    ],
)
def test_each_entry_is_checked(run, place, value):
    record = copy.deepcopy(json.loads((run / "steered.json").read_text()))
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    (run / "steered.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"steered.json.*" + place[-1] if value == value else "steered.json"):
        read_steered_record(run)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"step": 1}'])
def test_a_broken_record_is_refused(run, text):
    (run / "steered.json").write_text(text)
    with pytest.raises(ValueError, match="steered.json"):
        read_steered_record(run)
