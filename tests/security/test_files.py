"""Hostile data files: headers that claim more than there is, bombs, pickles, deep JSON, names that lead elsewhere."""

import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.data import array_files, decoding
from flowmaps.data.cache import cache_folder
from flowmaps.data.check import check_labels
from flowmaps.files import load_tensors, parse_json, read_json, tensor_shapes

BYTES = b"\0" * 64


def npy(shape, descr="<f4", body=BYTES, version=(1, 0), header=None):
    """A .npy file with any header."""
    header = header or repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(header)) + header + body


def npz(compression=zipfile.ZIP_DEFLATED, **members):
    """A .npz file with any members."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def safetensors(header, body=BYTES):
    """A safetensors file with any header."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header)) + header + body


def tensor(shape, end, dtype="F32"):
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}


class Touch:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


CLAIMS = {
    "8 GB.npy": (npy((2**31,)), "its header claims 8589934592 bytes, and it has 64"),
    "more bytes than there can be.npy": (npy((2**40, 2**40)), "its header claims"),
    "a negative size.npy": (npy((-1, 4)), "not numbers"),
    "objects.npy": (npy((4,), "|O"), "it holds object of shape (4,), not numbers"),
    "nothing a thousand million times.npy": (npy((10**9,), "|V0"), "not numbers"),
    "a header of 4 GB.npy": (b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**32 - 1) + b"{}", "its header is longer than"),
    "a header with a call.npy": (npy((), header=b"__import__('os').getcwd()"), "cannot be read as arrays"),
    "a deep header.npy": (npy((), header=b"(" * 5000), "cannot be read as arrays"),
    "another version.npy": (npy((4,), version=(3, 0)), "its format (3, 0) is not one of arrays of numbers"),
    "half a magic.npy": (b"\x93NUM", "cannot be read as arrays"),
    "no bytes.npy": (b"", "cannot be read as arrays"),
    "8 GB.npz": (npz(x=npy((2**31,))), "its header claims 8589934592 bytes, and it has 64"),
    "objects.npz": (npz(x=npy((1,), "|O")), "it holds object of shape (1,), not numbers"),
    "no archive.npz": (b"PK\x03\x04" + b"\0" * 100, "cannot be read as arrays"),
    "8 GB.safetensors": (safetensors(tensor([2**31], 2**33)), "cannot be read as arrays"),
    "a lie.safetensors": (safetensors(tensor([2**31], 64)), "cannot be read as arrays"),
    "a long header.safetensors": (struct.pack("<Q", 2**62) + b"{}", "header too large"),
    "deep.safetensors": (safetensors(b'{"x":' * 10**5), "recursion limit"),
    "no offsets.safetensors": (safetensors({"x": {"dtype": "F32", "shape": [16]}}), "cannot be read as arrays"),
    "eighths.safetensors": (safetensors(tensor([64], 64, "F8_E4M3")), "cannot be read as arrays"),
}


@pytest.fixture
def reading(monkeypatch):
    """Fail where memory is taken for the content of an array file."""

    def never(*_, **__):
        raise AssertionError("the content of a hostile file was read")

    monkeypatch.setattr(np, "load", never)
    monkeypatch.setattr(array_files, "_member", never)


@pytest.mark.parametrize("name", CLAIMS)
def test_an_array_that_claims_more_than_its_file_has_is_refused_before_it_is_read(name, tmp_path, reading):
    content, said = CLAIMS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError) as error:
        fm.data.load(tmp_path / name)
    assert said in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def test_arrays_that_claim_what_they_have_are_read(tmp_path):
    x, label = np.random.default_rng(0).normal(size=(40, 2)).astype("float32"), np.arange(40) % 3
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", x=x, label=label)
    np.savez_compressed(tmp_path / "b.npz", x=x, label=label)
    (tmp_path / "c.npy").write_bytes(npy((4, 2), body=x[:4].tobytes(), version=(2, 0)))
    found = [fm.data.load(tmp_path / name) for name in ("a.npy", "a.npz", "b.npz", "c.npy")]
    assert [data.size for data in found] == [32, 32, 32, 3] and [data.classes for data in found] == [None, 3, 3, None]


def test_a_bomb_in_an_archive_is_refused_before_it_is_read(tmp_path, reading, monkeypatch):
    monkeypatch.setattr(array_files, "SMALL", 2**20)
    (tmp_path / "bomb.npz").write_bytes(npz(x=npy((2**20,), body=b"\0" * 2**22)))
    with pytest.raises(ValueError, match=r"bomb\.npz.*x\.npy claims \d+ bytes, compressed to \d+: save it as \.npy"):
        fm.data.load(tmp_path / "bomb.npz")


@pytest.mark.parametrize("suffix", ["npy", "npz", "safetensors"])
def test_a_pickle_under_the_name_of_an_array_does_not_run(suffix, tmp_path):
    marker = tmp_path / "marker"
    buffer = io.BytesIO()
    np.save(buffer, np.array([Touch(str(marker))], dtype=object), allow_pickle=True)
    contents = [pickle.dumps(Touch(str(marker))), buffer.getvalue(), npz(x=buffer.getvalue())]
    torch.save(Touch(str(marker)), tmp_path / "saved")
    for content in [*contents, (tmp_path / "saved").read_bytes()]:
        (tmp_path / f"rows.{suffix}").write_bytes(content)
        with pytest.raises(ValueError):
            fm.data.load(tmp_path / f"rows.{suffix}")
    assert not marker.exists()


@pytest.mark.parametrize(
    "label", [10**9, 1e300, float("inf"), float("nan"), -1, np.uint64(2**63 + 5), np.int64(2**62), 0.5], ids=str
)
def test_a_label_far_beyond_the_rows_is_refused(label, tmp_path):
    """Such a label would make as many classes, and a network with an embedding for each."""
    labels = np.array([0, 1, 2, label] if not isinstance(label, np.uint64) else [label] * 4)
    np.savez(tmp_path / "rows.npz", x=np.ones((4, 2), "float32"), label=labels)
    with pytest.raises(ValueError, match=r"rows\.npz") as error:
        fm.data.load(tmp_path / "rows.npz")
    assert "\n" not in str(error.value)


def test_labels_with_a_number_of_classes_are_taken_up_to_a_bound():
    assert check_labels([0, 10**6], 2, "rows", classes=10**6 + 1)[1] == 10**6 + 1
    assert check_labels([0, 60_000], 2, "rows")[1] == 60_001
    for classes in (10**9, 0, -1, True, 2.5):
        with pytest.raises((ValueError, TypeError), match="classes must be a whole number"):
            check_labels([0, 1], 2, "rows", classes=classes)


def png(width, height, data):
    """A grey PNG file with any header."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("width", "height"), [(13_000, 13_000), (2**31 - 1, 2**31 - 1), (2**30, 1)])
def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(width, height, tmp_path, monkeypatch):
    from PIL import Image

    (tmp_path / "large.png").write_bytes(png(width, height, zlib.compress(b"\0" * 10**6)))
    monkeypatch.setattr(decoding.ImageFormat, "__call__", lambda *_: pytest.fail("a hostile picture was decoded"))
    with pytest.raises(ValueError, match=r"large\.png.*pixels") as error:
        fm.data.load(tmp_path, size=8)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    Image.new("L", (8, 8), 255).save(tmp_path / "other.png")
    with pytest.warns(UserWarning, match=r"1 of 3 images of .* left out: large\.png: "):
        assert len(fm.data.load(tmp_path, size=8).skipped) == 1


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A small cache of rows without texts."""
    from flowmaps.data.caching import Content, make_cache

    folder = tmp_path_factory.mktemp("cache") / "cache"
    about = {"shape": [2], "kind": "points", "classes": None, "name": "rows", "class_names": None, "levels": None,
             "moments": False}  # fmt: skip
    rows = Content(6, 6, lambda r: {"x0": torch.ones(len(r), 2), "held": torch.arange(len(r)) > 3})
    make_cache(folder, {"a": 1}, lambda: about, [], {"rows": rows, "texts": Content(0, 1, lambda r: {})})
    return folder


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (["data", "shape"], [2**20, 2**20], "data.shape must be positive numbers"),
        (["data", "shape"], [3], "do not have the shape"),
        (["data", "shape"], "x", "data.shape must be list"),
        (["data", "classes"], 10**9, "data.classes must be 1 to"),
        (["data", "kind"], "evil", "data.kind must be"),
        (["tables", "rows", 0, "file"], "../rows.safetensors", "is not the name of a shard"),
        (["tables", "rows", 0, "file"], "/etc/passwd", "is not the name of a shard"),
        (["tables", "rows", 0, "bytes"], "x", r"tables.rows\[0\].bytes must be int"),
        (["tables", "rows"], {}, "tables.rows must be"),
        (["tables"], [], "tables must be a JSON object"),
        (["data"], None, "data must be a JSON object"),
        ([], [], "the document must be a JSON object"),
    ],
)  # fmt: skip
def test_the_manifest_of_a_cache_is_checked(place, value, said, cache, tmp_path):
    import shutil

    shutil.copytree(cache, tmp_path / "cache")
    file = tmp_path / "cache" / "cache.json"
    manifest = at = json.loads(file.read_text())
    manifest.pop("checksum", None)
    for key in place[:-1]:
        at = at[key]
    if place:
        at[place[-1]] = value
    file.write_text(json.dumps(manifest if place else value))
    with pytest.raises(ValueError, match=said) as error:
        cache_folder(str(tmp_path / "cache"))
    assert "cache" in str(error.value) and "\n" not in str(error.value)


def test_json_is_read_up_to_a_size_and_a_depth(tmp_path):
    file = tmp_path / "a.json"
    for depth, fits in ((50, True), (100, True), (101, False), (10**5, False)):
        file.write_text("[" * depth + "]" * depth)
        if fits:
            assert read_json(file) == parse_json(file.read_text())
        else:
            with pytest.raises(ValueError, match=r"a\.json cannot be read: it holds more than 100 lists"):
                read_json(file)
    file.write_text('{"a": 1}')
    assert read_json(file, most=8) == {"a": 1}
    with pytest.raises(ValueError, match=r"a\.json cannot be read: a JSON file of at most 7 bytes is expected"):
        read_json(file, most=7)
    with pytest.raises(ValueError, match="is not a regular file"):
        read_json(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "gone.json")


def test_weights_that_claim_more_than_their_file_has_are_refused(tmp_path):
    file = tmp_path / "flow.safetensors"
    for content in (safetensors(tensor([2**31], 2**33)), safetensors(tensor([2**31], 64)), b"\x80\x04.", b""):
        file.write_bytes(content)
        for read in (load_tensors, tensor_shapes):
            with pytest.raises(ValueError, match=r"flow\.safetensors is (not a safetensors file|a pickle)"):
                read(file)
    file.write_bytes(safetensors(tensor([4, 4], 64)))
    assert tensor_shapes(file) == {"x": (4, 4)}
