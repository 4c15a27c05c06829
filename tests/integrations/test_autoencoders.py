"""The autoencoder of a pipeline is found by its class, whatever its name: images are encoded, samples are decoded."""

import json

import diffusers
import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.experiments import distill, sample
from flowmaps.experiments.build import row_of
from flowmaps.experiments.distillation_setup import source_of
from flowmaps.experiments.pretrained_sources import SourceOptions
from flowmaps.integrations.diffusers import Latents
from flowmaps.integrations.diffusers.autoencoders import autoencoder
from flowmaps.integrations.diffusers.cache import cached
from flowmaps.integrations.diffusers.fingerprints import of_pipeline
from flowmaps.integrations.diffusers.folder import opened
from flowmaps.training import read_config
from tests.integrations import tiny

pytestmark = pytest.mark.slow

QUIET = {"batch_size": 2, "steps": 1, "trackers": (), "progress_bar": False, "sample_every": 0}


@pytest.fixture(scope="module", params=[True, False], ids=["VQModel", "AutoencoderKL"])
def ldm(request, tmp_path_factory):
    return tiny.ldm(tmp_path_factory.mktemp("ldm"), quantised=request.param)


@pytest.fixture(scope="module")
def loaded(ldm):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(ldm)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


def renamed(folder, old, new):
    """Give a component another name."""
    index = json.loads((folder / "model_index.json").read_text())
    index[new] = index.pop(old)
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / old).rename(folder / new)
    return folder


@torch.no_grad()
def test_latents_are_those_of_the_pipeline(ldm, loaded):
    latents = Latents(ldm)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    vae, scale = loaded.vqvae, loaded.vqvae.config.scaling_factor
    found = vae.encode(x)
    z = scale * (found.latents if hasattr(found, "latents") else found.latent_dist.mode())
    assert latents.shape == (4, 8, 8) and torch.allclose(latents.encode(x), z, atol=1e-6)
    assert torch.allclose(latents.decode(z), vae.decode(z / scale).sample, atol=1e-6)
    assert torch.equal(Latents(loaded).encode(x), latents.encode(x))


@torch.no_grad()
def test_a_sample_of_the_pipeline_is_decoded_alike(ldm, loaded):
    given = {"num_inference_steps": 2, "generator": torch.Generator().manual_seed(1), "output_type": "np"}
    seen = []
    decode = loaded.vqvae.decode
    loaded.vqvae.decode = lambda z, *more, **options: seen.append(z) or decode(z, *more, **options)
    image = loaded(batch_size=1, **given).images
    loaded.vqvae.decode = decode
    ours = Latents(ldm).decode(seen[0] * loaded.vqvae.config.scaling_factor)
    assert np.allclose(image, ((ours + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy(), atol=1e-5)


def test_photographs_are_encoded_and_samples_are_decoded(ldm, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", images)
    run = distill(ldm, data="x.npy", method="lmd", out="run", cache="cache", **QUIET)
    about = read_config(run)["data"]
    assert (about["shape"], about["kind"]) == ([4, 8, 8], "vectors")
    rows = fm.data.load("cache")
    x0 = torch.cat([rows.draw(rows.size).x0, rows.held_out(99).x0])
    pixels = torch.from_numpy(images).movedim(-1, 1) / 127.5 - 1
    expected = Latents(ldm).encode(pixels)
    assert torch.allclose(x0.flatten(1).sort(0).values, expected.flatten(1).sort(0).values, atol=2e-2)
    sample("run", n=1, out="samples.png")
    from PIL import Image

    assert min(Image.open("samples.png").size) >= 16
    manifest = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert set(manifest["made"]["pipeline"]) == {"vqvae"}


def test_its_export_decodes(ldm, loaded, tmp_path):
    flow = fm.student(fm.integrations.diffusers.teacher(ldm))
    folder = fm.export.to_diffusers(flow, tmp_path / "out", base=ldm)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    found = pipeline(latents=noise, output_type="pt").images
    ours = Latents(ldm).decode(fm.sample(flow, noise))
    assert found.shape == (2, 3, 16, 16) and torch.allclose(found, ((ours + 1) / 2).clamp(0, 1), atol=1e-4)
    assert torch.allclose(pipeline(latents=noise, output_type="latent").images, fm.sample(flow, noise), atol=1e-5)
    assert fm.export.check.check(folder)


@pytest.mark.parametrize("name", ["movq", "first_stage_model", "vae_decoder"])
def test_any_name_will_do(name, tmp_path):
    folder = renamed(tiny.ldm(tmp_path / "ldm"), "vqvae", name)
    assert autoencoder(opened(folder)) == name and Latents(folder).shape == (4, 8, 8)
    assert set(of_pipeline(opened(folder))) == {name}
    sd = renamed(tiny.stable_diffusion(tmp_path / "sd"), "vae", name)
    assert autoencoder(opened(sd)) == name and Latents(sd).shape == (4, 8, 8)


def test_a_pipeline_without_one_makes_images(tmp_path):
    folder = tiny.ddpm_unet(tmp_path)
    assert autoencoder(opened(folder)) is None
    assert autoencoder(opened(diffusers.DiffusionPipeline.from_pretrained(folder))) is None


@pytest.mark.parametrize("entry", [["diffusers", "AutoencoderDC"], ["diffusers", "MyCodec"], ["my_code", "Decoder"]])
def test_a_component_that_may_be_one_is_refused(entry, images, tmp_path):
    folder = tiny.ddpm_unet(tmp_path / "p", channels=3)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"codec": entry}))
    message = f"the codec of .* is a {entry[1]} of '{entry[0]}', and flowmaps cannot tell whether it encodes images"
    ways = [
        lambda: Latents(folder),
        lambda: cached(folder, images, out=tmp_path / "cache"),
        lambda: source_of(folder, SourceOptions(data=images)).data(row_of("lmd")),
        lambda: source_of(folder, SourceOptions()).data(row_of("pid")),
        lambda: fm.export.to_diffusers(
            fm.student(fm.integrations.diffusers.teacher(folder)), tmp_path / "out", base=folder
        ),
    ]
    for way in ways:
        with pytest.raises(ValueError, match=message):
            way()
    (folder / "model_index.json").write_text(json.dumps(index | {"codec": [None, None]}))
    assert Latents(folder).shape == (3, 8, 8)


def test_several_are_refused(tmp_path):
    folder = tiny.ldm(tmp_path)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"upscaler": ["diffusers", "AutoencoderKL"]}))
    with pytest.raises(ValueError, match="has several autoencoders, (upscaler, vqvae|vqvae, upscaler)"):
        Latents(folder)


def test_moments_need_a_distribution(images, tmp_path):
    folder = tiny.ldm(tmp_path / "p")
    with pytest.raises(ValueError, match="has one latent for each image and no distribution"):
        cached(folder, images, out=tmp_path / "cache", moments=True)


def test_another_pipeline_of_latents_of_a_unet_is_not_exported(tmp_path):
    folder = renamed(tiny.ldm(tmp_path / "p"), "vqvae", "movq")
    flow = fm.student(fm.integrations.diffusers.teacher(folder))
    with pytest.raises(ValueError, match="decoded by the movq of a LDMPipeline"):
        fm.export.to_diffusers(flow, tmp_path / "out", base=folder)
