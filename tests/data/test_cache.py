"""Cache folders: written shard by shard, gone on with after a stop at any moment, mapped, checked."""

import importlib
import json
from itertools import islice

import pytest
import torch

from flowmaps.data import load
from flowmaps.data.caching import Content, check_cache, make_cache

X = torch.arange(23 * 4, dtype=torch.float32).reshape(23, 4, 1, 1)
TEXTS = ["a", "b", "", "bad"]
PROMPT = torch.arange(23) % 2
MADE = {"pipeline": {"vae": "12ab"}, "images": {"rows": 23}}
ABOUT = {"name": "n", "shape": [4, 1, 1], "kind": "vectors", "classes": 5, "class_names": None, "levels": None}


class Stop(Exception):
    """The end of a process."""


class Encoders:
    """What makes the two tables; the calls are kept, and the one of number `last` is the end."""

    def __init__(self, last=10**6):
        self.calls, self.last = [], last

    def tables(self):
        return {"texts": Content(4, 3, self.texts), "rows": Content(23, 5, self.rows)}

    def called(self, name, rows):
        if len(self.calls) == self.last:
            raise Stop
        self.calls.append((name, rows.start))

    def texts(self, rows):
        self.called("texts", rows)
        return {"text": torch.tensor([[float(i)] * 2 for i in rows]).half(), "mask": torch.ones(len(rows), 2).bool()}

    def rows(self, rows):
        self.called("rows", rows)
        of = slice(rows.start, rows.stop)
        held = torch.arange(23) % 6 == 5
        return {"x0": X[of], "label": (torch.arange(23) % 5)[of], "held": held[of], "prompt": PROMPT[of]}


def made(folder, encoders, made=MADE, moments=False):
    return make_cache(folder, made, lambda: ABOUT | {"moments": moments}, TEXTS, encoders.tables())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache that was made in one go."""
    folder = tmp_path_factory.mktemp("cache") / "whole"
    encoders = Encoders()
    made(folder, encoders)
    assert len(encoders.calls) == 7
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_come_with_their_labels_and_the_conditions_of_their_texts(whole):
    data = load(whole)
    assert (data.name, data.shape, data.kind, data.classes, data.size) == ("n", (4, 1, 1), "vectors", 5, 20)
    assert data.given == ("text", "mask") and data.recipe == {"name_or_path": str(whole)}
    for batch in (next(data.batches(7)), data.draw(20), data.held_out(9)):
        rows = (batch.x0[:, 0, 0, 0] / 4).long()
        assert torch.equal(batch.x0, X[rows]) and torch.equal(batch.label, rows % 5)
        assert torch.equal(batch.given["text"][:, 0], (rows % 2).float()) and batch.given["mask"].dtype == torch.bool
    assert sorted((data.held_out(9).x0[:, 0, 0, 0] / 4).tolist()) == [5, 11, 17]
    assert data.prompts.conditions("bad")["text"].tolist() == [[3, 3]]
    again = list(islice(load(whole).batches(7, seed=2, start=1), 3))
    assert all(torch.equal(a.x0, b.x0) for a, b in zip(again, islice(data.batches(7, seed=2), 1, 4), strict=True))


@pytest.mark.parametrize("last", range(7))
def test_a_making_that_was_stopped_goes_on(whole, tmp_path, last):
    first, second = Encoders(last), Encoders()
    with pytest.raises(Stop):
        made(tmp_path / "cache", first)
    with pytest.raises(ValueError, match="is not complete: make it again with the same arguments to complete it"):
        load(tmp_path / "cache")
    made(tmp_path / "cache", second)
    assert not set(first.calls) & set(second.calls) and len(first.calls + second.calls) == 7
    assert content(tmp_path / "cache") == content(whole)
    third = Encoders()
    made(tmp_path / "cache", third)
    assert not third.calls


MOMENTS = [("data.caching.write_text", 0)] + [
    (moment, last)
    for moment in ("files.documents.write_text", "data.caching.write_json", "files.writing.flush")
    for last in (0, 1, 4)
]
"""Functions, and the number of their calls before the process ends."""


@pytest.mark.parametrize(("moment", "last"), MOMENTS)
def test_a_stop_between_two_files_loses_nothing_that_was_whole(whole, tmp_path, monkeypatch, moment, last):
    """The process ends when a file is about to be written, or lies there under its temporary name."""
    place, _, name = f"flowmaps.{moment}".rpartition(".")
    real, seen = getattr(importlib.import_module(place), name), []

    def ending(*args):
        seen.append(args)
        if len(seen) > last:
            raise Stop
        return real(*args)

    first, second = Encoders(), Encoders()
    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr(f"flowmaps.{moment}", ending)
        made(tmp_path / "cache", first)
    made(tmp_path / "cache", second)
    there = content(tmp_path / "cache")
    assert {name: there[name] for name in content(whole)} == content(whole)
    # the shard under its temporary name is no shard yet
    assert len(set(first.calls) & set(second.calls)) <= moment.endswith("flush")


def test_a_cache_of_something_else_is_refused(whole, tmp_path):
    with pytest.raises(ValueError, match="has another origin: its.pipeline.vae was 12ab and is 34cd. Choose"):
        made(whole, Encoders(), MADE | {"pipeline": {"vae": "34cd"}})
    (tmp_path / "notes.md").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not a cache"):
        made(tmp_path, Encoders())


def test_damage_is_found_and_mended(tmp_path):
    folder, again = tmp_path / "cache", Encoders()
    made(folder, Encoders())
    good = content(folder)
    bytes_ = bytearray(good["rows-00001.safetensors"])
    bytes_[-20] ^= 1
    (folder / "rows-00001.safetensors").write_bytes(bytes_)
    for read in (load, check_cache):
        with pytest.raises(ValueError, match="rows-00001.safetensors is damaged: its checksum has changed. Make the"):
            read(folder)
    load(folder, check=False)
    made(folder, again)
    assert again.calls == [("rows", 5)] and content(folder) == good
    (folder / "rows-00001.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="rows-00001.safetensors is gone: make the cache again"):
        load(folder)
    (folder / "rows-00003.safetensors").write_bytes(good["rows-00003.safetensors"][:200])
    made(folder, again)
    assert again.calls[1:] == [("rows", 5), ("rows", 15)] and content(folder) == good
    check_cache(folder)
    (folder / "rows-00003.safetensors").write_bytes(good["rows-00003.safetensors"][:200])
    with pytest.raises(ValueError, match="rows-00003.safetensors is damaged, 200 bytes instead of"):
        load(folder)
    (folder / "cache.json").write_text("{")
    with pytest.raises(ValueError, match="cache.json cannot be read"):
        load(folder)
    (folder / "cache.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(ValueError, match="has format 2, and this version of flowmaps reads 1"):
        load(folder)


def test_what_is_not_finite_is_not_kept(tmp_path):
    encoders = Encoders()
    broken = encoders.tables() | {"rows": Content(5, 5, lambda rows: {"x0": torch.full((5, 4), torch.nan)})}
    with pytest.raises(ValueError, match="x0 of rows 0:5 for .* must be finite, and of 20 values 20 are NaN"):
        make_cache(tmp_path / "cache", MADE, lambda: ABOUT | {"moments": False}, TEXTS, broken)


def test_rows_of_moments_are_drawn_anew(tmp_path):
    table = {"rows": Content(6, 6, lambda rows: {"x0": torch.ones(6, 4, 1, 1), "held": torch.arange(6) == 5})}
    about = ABOUT | {"classes": None, "moments": True}
    data = make_cache(tmp_path / "cache", MADE, lambda: about, [], {"texts": Content(0, 1, dict), **table})
    one, two = data.draw(3, seed=0).x0, data.draw(3, seed=1).x0
    assert data.shape == one.shape[1:] == (2, 1, 1) and not torch.equal(one, two) and data.prompts is None


def test_prompts_alone(tmp_path):
    encoders = Encoders()
    index = torch.tensor([0, 1, 1])
    tables = encoders.tables() | {"rows": Content(3, 9, lambda rows: {"prompt": index})}
    data = make_cache(tmp_path / "cache", MADE, lambda: ABOUT | {"moments": False}, TEXTS, tables)
    batch = next(data.batches(600))
    assert data.size is None and batch.x0.shape == (600, 4, 1, 1) and set(batch.label.tolist()) == set(range(5))
    # 400 of the second text are expected, with a standard deviation of 12
    assert abs(int(batch.given["text"][:, 0].sum()) - 400) < 60
    assert load(tmp_path / "cache").prompts.conditions("")["text"].tolist() == [[2, 2]]


def test_what_is_done_is_reported(tmp_path):
    told = []
    make_cache(
        tmp_path / "c",
        MADE,
        lambda: ABOUT | {"moments": False},
        TEXTS,
        Encoders().tables(),
        lambda *line: told.append(line),
    )
    assert told == [("texts", 3, 4), ("texts", 4, 4), *[("rows", min(at, 23), 23) for at in range(5, 26, 5)]]
