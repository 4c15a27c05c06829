"""Caches of encoded images and prompts: what is in them, going on after a stop, and what is refused."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import flowmaps as fm
from flowmaps.data import load
from flowmaps.integrations.diffusers.cache import cached
from flowmaps.integrations.diffusers.encoding import Encoding
from flowmaps.integrations.diffusers.latents import Latents
from flowmaps.integrations.diffusers.text import Texts
from flowmaps.runs.lock import FolderLock
from tests.integrations import tiny

N = 10
CAPTIONS = [f"a {word}" for word in ("cat", "dog", "cat", "fox", "elk", "cat", "ant", "bee", "cow", "dog")]
EXACT = {"dtype": None, "batch_size": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("pipelines") / "sd")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of noise with captions, in two class folders."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    lines = []
    for i, caption in enumerate(CAPTIONS):
        name = f"{'ab'[i % 2]}/{i}.png"
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(root / name)
        lines.append(json.dumps({"file_name": name, "text": caption}))
    (root / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def whole(folder, pictures, tmp_path_factory):
    """A cache that was made in one go."""
    return cached(folder, pictures, negative="ugly", out=tmp_path_factory.mktemp("cache") / "whole", **EXACT)


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_are_the_latents_and_the_conditions_of_the_pipeline(folder, pictures, whole):
    data = load(pictures, captions=True)
    assert (whole.shape, whole.kind, whole.classes, whole.class_names) == ((4, 8, 8), "vectors", 2, ("a", "b"))
    assert whole.size == data.size and whole.given == ("text",)
    latents, texts = Latents(folder), Texts(folder)
    rows = torch.arange(N)
    batch, images = (d.source.train.rows.take(rows) for d in (whole, data))
    assert torch.allclose(batch.x0, latents.encode(images.x0), atol=1e-5) and torch.equal(batch.label, images.label)
    captions = [data.prompts.texts[i] for i in data.prompts.index]
    assert torch.allclose(batch.given["text"], texts.encode(captions)["text"], atol=1e-5)
    assert set(whole.source.test.index.tolist()) == set(data.source.test.index.tolist())
    for text in ("", "ugly", "a fox"):
        assert torch.allclose(whole.prompts.conditions(text)["text"], texts.encode([text])["text"], atol=1e-5)
    assert len(whole.prompts.texts) == len(set(CAPTIONS)) + 2


class Stop(Exception):
    """The end of a process."""


@pytest.mark.parametrize("last", [0, 2, 5])
def test_encoding_that_was_stopped_goes_on(folder, pictures, whole, tmp_path, monkeypatch, last):
    """Shards of four texts and of four images; the end comes in the middle of one."""
    for name in ("IMAGES_OF_A_SHARD", "TEXTS_OF_A_SHARD"):
        monkeypatch.setattr(f"flowmaps.integrations.diffusers.cache.{name}", 4)
    seen = []

    def counted(name, limit):
        real = getattr(Encoding, name)

        def encode(self, *args):
            if len(seen) == limit:
                raise Stop
            seen.append((name, args[-1].start))
            return real(self, *args)

        return encode

    with monkeypatch.context() as first:
        for name in ("texts", "images"):
            first.setattr(Encoding, name, counted(name, last))
        with pytest.raises(Stop):
            cached(folder, pictures, negative="ugly", out=tmp_path / "cache", **EXACT)
    for name in ("texts", "images"):
        monkeypatch.setattr(Encoding, name, counted(name, 10**6))
    data = cached(folder, pictures, negative="ugly", out=tmp_path / "cache", **EXACT)
    assert len(seen) == len(set(seen)) == 6
    if last == 2:
        unbroken = tmp_path / "unbroken"
        cached(folder, pictures, negative="ugly", out=unbroken, **EXACT)
        assert content(tmp_path / "cache") == content(unbroken)
    seen.clear()
    assert cached(folder, pictures, negative="ugly", out=tmp_path / "cache", **EXACT).size == data.size and not seen
    batches = data.draw(8), whole.draw(8)
    assert torch.equal(batches[0].x0, batches[1].x0)
    assert torch.allclose(batches[0].given["text"], batches[1].given["text"], atol=1e-6)


def test_a_cache_of_another_pipeline_or_of_other_images_is_refused(folder, pictures, tmp_path):
    other = tiny.sdxl(tmp_path / "sdxl")
    made = tmp_path / "cache"
    cached(folder, pictures, negative="ugly", out=made, **EXACT)
    with pytest.raises(ValueError, match="has another origin: its.pipeline.text_encoder was .* Choose anoth"):
        cached(other, pictures, negative="ugly", out=made, **EXACT)
    with pytest.raises(ValueError, match="has another origin: its.texts.count was 9 and is 8"):
        cached(folder, pictures, out=made, **EXACT)
    less = load(pictures, captions=True, labels=False)
    with pytest.raises(ValueError, match="has another origin: its.images.classes was 2 and is None"):
        cached(folder, less, negative="ugly", out=made, **EXACT)
    vae = folder / "vae" / "config.json"
    before = vae.read_text()
    vae.write_text(before.replace("0.18215", "0.2"))
    try:
        with pytest.raises(ValueError, match="its.pipeline.vae was"):
            cached(folder, pictures, negative="ugly", out=made, **EXACT)
    finally:
        vae.write_text(before)


def test_other_processes_take_what_the_first_one_made(folder, pictures, whole, tmp_path, monkeypatch):
    out = whole.recipe["name_or_path"]
    monkeypatch.setenv("RANK", "1")
    data = cached(folder, pictures, negative="ugly", out=out, **EXACT)
    assert torch.equal(data.draw(8).x0, whole.draw(8).x0)
    with pytest.raises(ValueError, match="has another origin"):
        cached(folder, pictures, out=out, **EXACT)


def test_one_process_encodes_at_a_time_and_a_complete_cache_is_read_beside_another(folder, pictures, whole, tmp_path):
    with FolderLock(tmp_path / "cache", "encoding into it"):
        with pytest.raises(BlockingIOError, match="cache is in use: this process has been encoding into it"):
            cached(folder, pictures, out=tmp_path / "cache")
    out = Path(whole.recipe["name_or_path"])
    with FolderLock(out, "encoding into it"):
        assert cached(folder, pictures, negative="ugly", out=out, **EXACT).size == whole.size
    (out / ".rows-00000.safetensors.999999999-0123abcd.tmp.safetensors").write_bytes(b"cut")
    (out / ".mine.tmp").write_bytes(b"mine")
    cached(folder, pictures, negative="ugly", out=out, **EXACT)
    assert [path.name for path in out.glob(".*")] == [".mine.tmp"]
    (out / ".mine.tmp").unlink()


def test_the_page_runs(folder, pictures, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "distill.md").read_text()
    *_, block = re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S)
    names = {}
    exec(block.replace("steps=1000", "steps=2, batch_size=2, trackers=(), progress_bar=False"), names)
    names["distil"](folder, pictures, tmp_path / "run")
    assert fm.load(tmp_path / "run").guided == "ClassifierFree, scale 3, between times 0 and 1"


def test_half_precision_and_moments(folder, pictures, tmp_path):
    half = cached(folder, pictures, out=tmp_path / "half", device="cpu")
    drawn = cached(folder, pictures, out=tmp_path / "moments", moments=True, device="cpu")
    stored = half.source.train.rows.rows.parts[0]
    assert stored["x0"].dtype == torch.float16 and half.draw(3).x0.dtype == torch.float32
    assert drawn.shape == half.shape and drawn.kind == "vectors"
    latents = Latents(folder)
    images = load(pictures).source.train.rows.take(torch.tensor([7])).x0
    with torch.no_grad():
        posterior = latents.vae.encode(images).latent_dist
    row = drawn.source.source.train.rows.take(torch.tensor([7])).x0
    for part, exact in zip(row.chunk(2, 1), (posterior.mean, posterior.std), strict=True):
        assert torch.allclose(part, exact * latents.scale, rtol=2e-3, atol=1e-4)
    assert not torch.equal(drawn.draw(3, seed=1).x0, drawn.draw(3, seed=2).x0)


def test_ready_latents_with_a_prompt_for_each(folder, tmp_path):
    x = torch.randn(N, 4, 8, 8)
    save_file({"x": x}, tmp_path / "latents.safetensors")
    data = cached(folder, tmp_path / "latents.safetensors", CAPTIONS, out=tmp_path / "cache", **EXACT)
    rows = data.source.train.index[:3]
    batch = data.source.train.take(torch.arange(3))
    assert torch.equal(batch.x0, x[rows]) and data.classes is None
    texts = Texts(folder).encode([CAPTIONS[i] for i in rows])
    assert torch.allclose(batch.given["text"], texts["text"], atol=1e-5)
    one = cached(folder, tmp_path / "latents.safetensors", ["a cat"], out=tmp_path / "one", **EXACT)
    assert one.prompts.index.tolist() == [0] * N


def test_prompts_alone(folder, tmp_path):
    (tmp_path / "p.txt").write_text("a cat\na dog\na cat\n")
    data = cached(folder, prompts=tmp_path / "p.txt", out=tmp_path / "cache", **EXACT)
    batch = next(data.batches(300))
    cat = (batch.given["text"] == data.prompts.conditions("a cat")["text"]).flatten(1).all(1)
    # 200 are expected, with a standard deviation of 8
    assert data.shape == (4, 8, 8) and abs(int(cat.sum()) - 200) < 40 and batch.label is None


def test_pipelines_without_a_vae_or_without_text(tmp_path):
    unet, dit = tiny.ddpm_unet(tmp_path / "unet", classes=3, channels=3), tiny.dit(tmp_path / "dit")
    images = (torch.rand(N, 3, 8, 8) * 2 - 1, torch.arange(N) % 3)
    data = cached(unet, images, out=tmp_path / "a", **EXACT)
    assert (data.kind, data.shape, data.classes, data.given, data.prompts) == ("images", (3, 8, 8), 3, (), None)
    assert torch.equal(data.source.train.rows.take(torch.arange(N)).x0, images[0])
    labels = cached(dit, classes=10, out=tmp_path / "b", **EXACT)
    batch = next(labels.batches(50))
    assert labels.shape == (4, 8, 8) and batch.given is None and batch.label.max() < 10
    with pytest.raises(ValueError, match="the network of .*dit has no text conditioning, so it takes no prompts"):
        cached(dit, prompts=["a cat"], out=tmp_path / "c")


def test_what_cannot_be(folder, pictures, tmp_path):
    out = tmp_path / "cache"
    plain = torch.rand(N, 3, 16, 16) - 0.5
    for images, prompts, message in (
        (None, None, "needs texts: pass --prompts FILE"),
        (plain, None, "needs texts, and tensor has no captions: write them beside the images"),
        (plain, ["a", "b"], "there are 2 prompts for 10 images of tensor: one for each is needed"),
        (
            torch.rand(N, 1, 16, 16),
            ["a"],
            r"images of 3 channels, and its latents have 4; .* \(1, 16, 16\), which is n",
        ),
        (plain[:, :, 1:], ["a"], "multiples of"),
        ("spirals", ["a"], "spirals is no finite set of rows without transforms"),
    ):
        with pytest.raises(ValueError, match=message):
            cached(folder, images, prompts, out=out, **EXACT)
        assert not out.exists()
