"""Networks with a learned variance: channels of the output behind the prediction, which no sample may hold."""

import diffusers
import pytest
import torch

import flowmaps as fm
from flowmaps.integrations.diffusers import Latents, teacher
from flowmaps.integrations.diffusers.networks import DiffusersNetwork
from tests.integrations import tiny

B = 2


def ddpm(prediction):
    kind = "learned_range" if prediction == "epsilon" else "learned"
    return diffusers.DDPMScheduler(clip_sample=False, prediction_type=prediction, variance_type=kind)


def noise_of(*shape):
    return torch.randn(B, *shape, generator=torch.Generator().manual_seed(1))


def exported(folder, out, **told):
    """A student of the pipeline, and its export."""
    flow = fm.student(teacher(folder), **told)
    fm.export.to_diffusers(flow, out, base=folder)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(out, trust_remote_code=True)
    pipeline.set_progress_bar_config(disable=True)
    return flow, pipeline


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.slow
def test_a_unet_of_images(channels, prediction, tmp_path):
    """The teacher, the student and the exported pipeline have the prediction alone."""
    folder = tiny.ddpm_unet(tmp_path / "p", channels=channels, scheduler=ddpm(prediction), variance=True)
    raw = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet")
    x, t = noise_of(channels, 8, 8), torch.tensor([100.0, 700.0])
    network = DiffusersNetwork.around(raw)
    with torch.no_grad():
        both = raw(x, t).sample
        assert both.shape[1] == 2 * channels and torch.equal(network(x, t), both[:, :channels])
    flow, pipeline = exported(folder, tmp_path / "out")
    assert torch.allclose(flow.velocity(x, 0.4), teacher(folder).velocity(x, 0.4), atol=1e-5)
    for steps in (1, 2):
        images = pipeline(latents=x, num_inference_steps=steps, output_type="latent").images
        assert images.shape == x.shape and torch.allclose(images, fm.sample(flow, x, steps=steps), atol=1e-4)
    assert pipeline(batch_size=B).images[0].mode == ("L" if channels == 1 else "RGB")


def test_a_unet_with_classes(tmp_path):
    folder = tiny.ddpm_unet(tmp_path / "p", classes=3, scheduler=ddpm("epsilon"), variance=True)
    flow, pipeline = exported(folder, tmp_path / "out", told=("guidance",))
    x, label = noise_of(1, 8, 8), torch.tensor([0, 2])
    images = pipeline(class_labels=label, latents=x, output_type="latent", guidance_scale=2.0).images
    assert torch.allclose(images, fm.sample(flow.given(label=label, guidance=torch.full((B,), 2.0)), x), atol=1e-4)


def with_variance(make, component, folder):
    """The pipeline with twice the channels out."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(make(folder.with_name("plain")))
    model = getattr(pipeline, component)
    torch.manual_seed(0)
    doubled = type(model).from_config({**model.config, "out_channels": 2 * model.config.in_channels})
    setattr(pipeline, component, tiny._random(doubled))
    return tiny._saved(pipeline, folder)


TEXTS = {
    "stable_diffusion": (
        lambda folder: with_variance(tiny.stable_diffusion, "unet", folder),
        {"height": 16, "width": 16},
    ),
    "sd3": (lambda folder: with_variance(tiny.sd3, "transformer", folder), {"height": 16, "width": 16}),
    "pixart": (tiny.pixart, {"height": 16, "width": 16, "use_resolution_binning": False}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_networks_with_texts(name, tmp_path):
    """Stable Diffusion's and SD3's own pipelines know no variance; PixArt's leaves it out itself."""
    make, size = TEXTS[name]
    folder = make(tmp_path / "p")
    flow, pipeline = exported(folder, tmp_path / "out")
    x = noise_of(4, 8, 8)
    found = pipeline(prompt=["a cat"] * B, latents=x, output_type="latent", **size)[0]
    given = fm.integrations.diffusers.Texts(folder, (16, 16)).encode(["a cat"] * B)
    ours = fm.sample(flow.given(**given), x)
    assert found.shape == x.shape and torch.allclose(found, ours, atol=2e-4)


def test_dit_leaves_it_out_itself(tmp_path):
    folder = tiny.dit(tmp_path / "p")
    flow, pipeline = exported(folder, tmp_path / "out")
    found = pipeline(class_labels=[0, 1], generator=torch.Generator().manual_seed(0), output_type="np").images
    x = torch.randn(B, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    ours = Latents(folder).decode(fm.sample(flow.given(label=torch.arange(2)), x))
    assert torch.allclose(torch.from_numpy(found), ((ours + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1), atol=1e-3)


@pytest.mark.parametrize("out", [2, 5, 7])
def test_outputs_of_another_meaning_are_refused(out):
    model = diffusers.UNet2DModel(
        sample_size=8, in_channels=3, out_channels=out, block_out_channels=(8,), norm_num_groups=4,
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",),
    )  # fmt: skip
    message = "an image beside" if out == 2 else "predictions of 3 channels, of some classes with as many of a learned"
    with pytest.raises(ValueError, match=f"predicts {out} channels from 3.*{message}"):
        DiffusersNetwork.around(model)


def test_twice_the_channels_of_tokens_are_refused(tmp_path):
    with pytest.raises(ValueError, match="this FluxTransformer2DModel predicts 32 channels from 16"):
        teacher(with_variance(tiny.flux, "transformer", tmp_path / "p"))
