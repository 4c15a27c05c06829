"""Conditions beside the label: in arrays, from texts that belong to rows, without rows, and left out."""

import json
from itertools import islice

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import flowmaps as fm
from flowmaps.data import load
from flowmaps.data.data_free import with_zero_rows
from flowmaps.data.prompts import Prompts, read_lines
from flowmaps.data.tables import TensorTable
from flowmaps.data.transforms import TextDropout, drawn_from_moments, transformed

N = 30
GIVEN = {"text": torch.randn(N, 3, 2), "mask": torch.randint(2, (N, 3)), "pooled": torch.randn(N, 4)}


@pytest.mark.parametrize("in_memory", [True, False])
def test_conditions_of_a_file_come_with_their_rows(tmp_path, monkeypatch, in_memory):
    if not in_memory:
        monkeypatch.setattr("flowmaps.data.arrays.IN_MEMORY", 0)
    number = torch.arange(N, dtype=torch.float32)
    tensors = {"x": number.reshape(N, 1, 1, 1).expand(N, 4, 2, 2).contiguous(), **GIVEN}
    save_file(tensors, tmp_path / "a.safetensors")
    data = load(tmp_path / "a.safetensors")
    assert data.given == ("text", "mask", "pooled")
    for batch in (next(data.batches(8)), data.draw(8), data.held_out(3)):
        rows = batch.x0[:, 0, 0, 0].long()
        assert all(torch.equal(batch.given[name], GIVEN[name][rows]) for name in GIVEN)
    share = next(data.batches(8, rows=slice(1, None, 2)))
    assert torch.equal(share.given["pooled"], next(data.batches(8)).given["pooled"][1::2])
    assert load(tmp_path / "a.safetensors", given=["mask"]).given == ("mask",)
    assert next(load(tmp_path / "a.safetensors", given=[]).batches(4)).given is None


def test_conditions_that_cannot_be(tmp_path):
    x = np.zeros((5, 3))
    for text, message in (
        (np.zeros((4, 2)), r"text of a.npz must have 5 rows, one for each, got shape \(4, 2\)"),
        (np.full((5, 2), np.nan), "text of a.npz must be finite, and of 10 values 10 are NaN"),
        (np.array(["a"] * 5), "text of a.npz must hold numbers, got dtype"),
    ):
        np.savez(tmp_path / "a.npz", x=x, text=text)
        with pytest.raises(ValueError, match=message):
            load(tmp_path / "a.npz")
    with pytest.raises(ValueError, match='has no key "size"'):
        load(tmp_path / "a.npz", given=["size"])


def test_the_parts_of_a_table_are_one(tmp_path):
    for number, rows in enumerate((slice(0, 11), slice(11, 12), slice(12, N))):
        save_file({name: value[rows].clone() for name, value in GIVEN.items()}, tmp_path / f"{number}.safetensors")
    table = TensorTable.mapped(sorted(tmp_path.iterdir()))
    index = torch.tensor([29, 0, 11, 10, 11, 12])
    assert len(table) == N and set(table.names) == set(GIVEN)
    assert all(torch.equal(value, GIVEN[name][index]) for name, value in table.take(index).items())
    assert torch.equal(table.column("mask"), GIVEN["mask"])
    assert TensorTable([{"x": torch.ones(2, dtype=torch.float16)}]).take(torch.tensor([1]))["x"].dtype == torch.float32
    (tmp_path / "3.safetensors").write_bytes(b"none")
    with pytest.raises(ValueError, match="cannot be read as tensors"):
        TensorTable.mapped(sorted(tmp_path.iterdir()))


def test_texts_are_kept_once():
    prompts = Prompts.of_rows(["a", "b", "a", ""])
    assert list(prompts.texts) == ["a", "b", ""] and prompts.index.tolist() == [0, 1, 0, 2]
    with pytest.raises(ValueError, match="not encoded yet"):
        prompts.conditions("a")
    prompts = Prompts(["a", "b"], None, TensorTable([{"text": torch.eye(2)}]))
    assert prompts.conditions("b", 3)["text"].tolist() == [[0, 1]] * 3
    with pytest.raises(ValueError, match="the text 'c' is none of the 2"):
        prompts.conditions("c")


def pictures(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (len(name), 0, 0)).save(folder / name)


def test_captions_beside_images(tmp_path):
    """The inner file has the last word, and a broken image takes its caption along."""
    pictures(tmp_path, ["a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png"])
    lines = [{"file_name": f"{name}.png", "text": f"meta {name}"} for name in ("a/1", "a/2", "b/1")]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "a" / "captions.txt").write_text("2.png\tinner 2\n")
    (tmp_path / "b" / "2.txt").write_text("beside 2\n")
    (tmp_path / "b" / "3.txt").write_text("beside 3\n")
    (tmp_path / "b" / "1.png").write_bytes(b"broken")
    with pytest.warns(UserWarning, match="1 of 5 images"):
        data = load(tmp_path, captions=True)
    assert [data.prompts.texts[i] for i in data.prompts.index] == ["meta a/1", "inner 2", "beside 2", "beside 3"]
    assert data.given == () and next(data.batches(2)).given is None
    (tmp_path / "b" / "3.txt").unlink()
    with pytest.raises(
        ValueError, match=r"1 of 5 images of .* have no text, the first b/3.png: write them to metadata"
    ):
        load(tmp_path, captions=True)
    (tmp_path / "metadata.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match='line 1 of .*metadata.jsonl must be JSON with "file_name"'):
        load(tmp_path, captions=True)
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / "a" / "captions.txt").write_text("2.png inner\n")
    with pytest.raises(ValueError, match="line 1 of .*captions.txt must be a file name, a tab and a text"):
        load(tmp_path, captions=True)


def test_captions_of_a_data_set(tmp_path):
    images = [Image.new("RGB", (4, 4)) for _ in range(6)]
    columns = {"image": images, "text": [f"text {i % 4}" for i in range(6)], "number": list(range(6))}
    made = datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())
    made.save_to_disk(tmp_path / "set")
    for captions in (True, "text"):
        data = load(tmp_path / "set", captions=captions)
        assert [data.prompts.texts[i] for i in data.prompts.index] == columns["text"] and len(data.prompts.texts) == 4
    with pytest.raises(ValueError, match='has no column "number" of texts; its columns are: image, text, number'):
        load(tmp_path / "set", captions="number")
    made.rename_column("text", "story").save_to_disk(tmp_path / "other")
    with pytest.raises(ValueError, match="needs one column of texts and has 0 of a usual name; pass captions=NAME"):
        load(tmp_path / "other", captions=True)


def test_lines_of_a_file(tmp_path):
    (tmp_path / "p.txt").write_text("a red cube\n\n two \n")
    assert read_lines(tmp_path / "p.txt") == ["a red cube", "", "two"]
    (tmp_path / "p.txt").write_text("")
    with pytest.raises(ValueError, match="holds no texts"):
        read_lines(tmp_path / "p.txt")
    (tmp_path / "p.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text file"):
        read_lines(tmp_path / "p.txt")


def test_prompts_without_rows_are_evenly_likely():
    table = {"text": torch.arange(5.0)[:, None], "mask": torch.arange(5)}
    data = fm.data.no_data((2,), 3, prompts=table)
    assert data.given == ("text", "mask") and with_zero_rows(data) is data
    batches = list(islice(data.batches(400, seed=1), 3))
    drawn = torch.cat([batch.given["mask"] for batch in batches])
    # 240 of each are expected, with a standard deviation of 14
    assert (torch.bincount(drawn, minlength=5) - 240).abs().max() < 60
    assert all(torch.equal(b.given["text"][:, 0].long(), b.given["mask"]) for b in batches)
    assert torch.equal(next(data.batches(400, seed=1, start=2)).given["mask"], batches[2].given["mask"])
    share = next(data.batches(400, seed=1, rows=slice(1, None, 4)))
    assert torch.equal(share.given["mask"], batches[0].given["mask"][1::4])
    bare = fm.data.no_data((2,), 3).batches(400, seed=1)
    assert all(torch.equal(a.label, b.label) for a, b in zip(batches, bare, strict=False))
    with pytest.raises(ValueError, match="prompts= holds no prompts"):
        fm.data.no_data((2,), prompts={})


def test_what_makes_rows_is_no_change_where_there_are_none():
    moments = drawn_from_moments(fm.data.as_data(torch.randn(20, 4, 2, 2).abs()))
    assert next(with_zero_rows(moments).batches(3)).x0.shape == (3, 2, 2, 2)


def test_text_is_left_out_for_a_share_of_the_rows():
    table = {"text": torch.randn(6, 3, 2), "pooled": torch.randn(6, 4), "size": torch.ones(6, 2)}
    null = {"text": torch.zeros(1, 3, 2), "pooled": torch.full((1, 4), 7.0)}
    data = fm.data.no_data((2,), prompts=table)
    before, after = (next(d.batches(2000)) for d in (data, transformed(data, TextDropout(0.25, null))))
    without = (after.given["pooled"] == 7).all(1)
    assert 0.2 < without.float().mean() < 0.3
    assert (after.given["text"][without] == 0).all() and torch.equal(after.given["size"], before.given["size"])
    assert torch.equal(after.given["text"][~without], before.given["text"][~without])
    for share, bad, message in ((1.5, null, r"must lie in \[0, 1\], got 1.5"), (0.5, {"txt": null["text"]}, "txt")):
        with pytest.raises(ValueError, match=message):
            next(transformed(data, TextDropout(share, bad)).batches(4))
