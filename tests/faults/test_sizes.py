"""Files with wrong entries or sizes: refused in one sentence, before memory is taken for them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import flowmaps as fm
from flowmaps.runs import loading


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two steps."""
    out = tmp_path_factory.mktemp("finished") / "run"
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1))
    for _ in fm.train(flow, fm.methods.imf(), fm.data.load("two_moons"), steps=2, out=out, batch_size=8,
                      progress_bar=False, trackers=(), sample_every=0):  # fmt: skip
        pass
    return out


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def edited(run, change):
    """Change config.json as somebody who edits it does, without its checksum."""
    config = json.loads((run / "config.json").read_text())
    config.pop("checksum", None)
    change(config)
    (run / "config.json").write_text(json.dumps(config))


def test_an_entry_of_a_config_that_is_missing_or_of_another_type_is_named(run):
    edited(run, lambda config: config["flow"]["network"]["arguments"].update(width="8"))
    with pytest.raises(
        ValueError, match=r"config\.json cannot be used: flow\.network\.arguments\.width: .* as int, got '8'"
    ):
        fm.load(run)
    edited(run, lambda config: config["training"].pop("labels"))
    with pytest.raises(ValueError, match=r"config\.json cannot be used: the entry training\.labels is missing"):
        fm.load(run)


def test_a_network_of_another_size_than_the_weights_is_refused_before_it_is_made(run, monkeypatch):
    edited(run, lambda config: config["flow"]["network"]["arguments"].update(width=10**6))
    rebuild, made = loading.rebuild, []
    monkeypatch.setattr(loading, "rebuild", lambda *args: made.append(rebuild(*args)) or made[-1])
    with pytest.raises(
        ValueError, match=r"do not fit this network: .* has shape .* there, and .*1000000.* in the network"
    ):
        fm.load(run)
    assert made and all(weight.is_meta for flow in made for weight in flow.parameters())


def test_an_array_file_that_is_cut_off_is_refused(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((100, 2), "float32"))
    whole = (tmp_path / "rows.npy").read_bytes()
    (tmp_path / "rows.npy").write_bytes(whole[:-400])
    with pytest.raises(ValueError, match=r"rows\.npy cannot be read.*its header claims 800 bytes, and it has 400"):
        fm.data.load(tmp_path / "rows.npy")


def test_a_label_that_is_no_number_of_a_class_is_refused(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.ones((100, 2), "float32"), label=np.full(100, 10**9))
    with pytest.raises(
        ValueError, match=r"the largest label of rows\.npz is 1000000000, which is far more than its 100"
    ):
        fm.data.load(tmp_path / "rows.npz")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_left_out(tmp_path):
    for name, side in (("a", 8), ("b", 8), ("large", 13_000)):
        Image.new("L", (side, side)).save(tmp_path / f"{name}.png")
    with pytest.warns(UserWarning, match=r"1 of 3 images .* left out: large\.png: it claims 13000 x 13000 pixels"):
        data = fm.data.load(tmp_path, size=8)
    assert data.skipped and data.shape == (1, 8, 8)


def test_a_document_of_json_that_is_too_deep_or_too_large_is_refused(run):
    for text, said in (("[" * 10**6, "more than 100 lists and objects"), (" " * (2**26 + 1), "at most 67108864 bytes")):
        (run / "config.json").write_text(text)
        with pytest.raises(ValueError, match=rf"config\.json cannot be read: .*{said}"):
            fm.load(run)
