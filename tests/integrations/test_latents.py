"""Latents by the pipeline's VAE: equal to what the pipelines do themselves, and back."""

import diffusers
import pytest
import torch

from flowmaps.integrations.diffusers.latents import Latents
from tests.integrations import tiny

IMAGES = [tiny.stable_diffusion, tiny.sd3]  # without and with a shift; the others are as one of them


@pytest.fixture(scope="module", params=IMAGES)
def images(request, tmp_path_factory):
    """(a loaded pipeline of images, its latents)."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(request.param(tmp_path_factory.mktemp("pipeline")))
    return pipeline, Latents(pipeline, size=(16, 16))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    folder = tiny.wan(tmp_path_factory.mktemp("pipeline"))
    return diffusers.DiffusionPipeline.from_pretrained(folder), Latents(folder, size=(9, 64, 64))


def test_decoded_as_the_pipeline_decodes(images):
    pipeline, latents = images
    z = torch.randn(2, 4, 8, 8)
    config = pipeline.vae.config
    expected = pipeline.vae.decode(z / config.scaling_factor + (config.shift_factor or 0.0)).sample
    assert torch.equal(latents.decode(z), expected)


def test_encoded_latents_are_decoded_like_the_images_through_the_vae_alone(images):
    pipeline, latents = images
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    z = latents.encode(x)
    assert z.shape[1:] == latents.shape == (4, 8, 8) and not z.requires_grad
    alone = pipeline.vae.decode(pipeline.vae.encode(x).latent_dist.mode()).sample
    assert torch.allclose(latents.decode(z), alone, atol=1e-5)
    drawn = [latents.encode(x, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.allclose(drawn[0], drawn[2])


def test_encoded_as_the_pipeline_from_image_to_image_encodes(tmp_path):
    """StableDiffusion3's own, at a strength of no noise."""
    folder = tiny.sd3(tmp_path)
    pipeline = diffusers.StableDiffusion3Img2ImgPipeline.from_pretrained(folder)
    x = torch.rand(1, 3, 16, 16)
    scheduled = torch.zeros(1)
    pipeline.scheduler.set_timesteps(2)
    pipeline.scheduler.sigmas[:] = 0.0
    own = pipeline.prepare_latents(
        pipeline.image_processor.preprocess(x), pipeline.scheduler.timesteps[:1] + scheduled, 1, 1, torch.float32,
        torch.device("cpu"), torch.Generator().manual_seed(0),
    )  # fmt: skip
    ours = Latents(folder).encode(2 * x - 1, torch.Generator().manual_seed(0))
    assert torch.allclose(own, ours, atol=1e-6)


def test_the_mean_and_std_of_a_vae_are_used(tmp_path):
    folder = tiny.sdxl(tmp_path)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    mean, std = [0.1, -0.2, 0.3, 0.5], [1.5, 2.0, 0.8, 1.2]
    pipeline.vae.register_to_config(latents_mean=mean, latents_std=std)
    latents, z = Latents(pipeline), torch.randn(1, 4, 8, 8)
    own = pipeline.vae.decode(
        z * torch.tensor(std).view(1, 4, 1, 1) / 0.13025 + torch.tensor(mean).view(1, 4, 1, 1)
    ).sample
    assert torch.allclose(latents.decode(z), own, atol=1e-5)
    x = torch.rand(1, 3, 16, 16)
    alone = pipeline.vae.decode(pipeline.vae.encode(x).latent_dist.mode()).sample
    assert torch.allclose(latents.decode(latents.encode(x)), alone, atol=1e-5)


def test_videos(video):
    """The latents are what the pipeline normalises, (z - mean)/std, and decodes."""
    pipeline, latents = video
    x = torch.rand(1, 3, 9, 64, 64) * 2 - 1
    z = latents.encode(x)
    assert z.shape[1:] == latents.shape == (4, 3, 8, 8)
    raw = pipeline.vae.encode(x).latent_dist.mode()
    mean, std = (
        torch.tensor(v).view(1, 4, 1, 1, 1) for v in (pipeline.vae.config.latents_mean, pipeline.vae.config.latents_std)
    )
    assert torch.allclose(z, (raw - mean) / std, atol=1e-6)
    assert torch.equal(latents.decode(z), pipeline.vae.decode(z / (1 / std) + mean).sample)


def test_without_a_vae_images_are_their_latents(tmp_path):
    latents, x = Latents(tiny.ddpm_unet(tmp_path, channels=3)), torch.randn(2, 3, 8, 8)
    assert latents.shape == (3, 8, 8) and latents.encode(x) is x and latents.decode(x) is x


@pytest.mark.parametrize(
    ("make", "shape"),
    [(tiny.stable_diffusion, (4, 8, 8)), (tiny.flux, (4, 128, 128)), (tiny.wan, (4, 21, 60, 104))],
)
def test_the_shape_by_default_is_that_of_the_pipeline(make, shape, tmp_path):
    assert Latents(make(tmp_path)).shape == shape


def test_they_go_to_a_dtype_with_the_pipeline_and_pass_gradients(images):
    _, latents = images
    z = torch.randn(1, 4, 8, 8, dtype=torch.bfloat16, requires_grad=True)
    image = latents.decode(z)
    assert image.dtype == torch.bfloat16
    image.sum().backward()
    assert z.grad.abs().sum() > 0 and latents.state_dict().keys() == {f"vae.{k}" for k in latents.vae.state_dict()}


def test_sizes_that_the_vae_does_not_divide(images, video):
    with pytest.raises(ValueError, match=r"sizes \(H, W\) with H and W multiples of 2, 2, but the size is \(15, 16\)"):
        images[1].encode(torch.zeros(1, 3, 15, 16))
    with pytest.raises(ValueError, match=r"T - 1, H and W multiples of 4, 8, 8, but the size is \(8, 64, 64\)"):
        Latents(video[0], size=(8, 64, 64))
    with pytest.raises(ValueError, match=r"\(T, H, W\)"):
        video[1].encode(torch.zeros(1, 3, 64, 64))


def test_a_vae_that_is_not_known(tmp_path):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tiny.stable_diffusion(tmp_path))
    pipeline.vae = diffusers.AutoencoderTiny(
        encoder_block_out_channels=(4,),
        decoder_block_out_channels=(4,),
        num_encoder_blocks=(1,),
        num_decoder_blocks=(1,),
    )
    with pytest.raises(
        ValueError, match="cannot encode by a VAE of class AutoencoderTiny; known classes are AutoencoderKL"
    ):
        Latents(pipeline)
