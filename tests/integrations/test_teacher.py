"""A pipeline as a teacher: Euler's method on the times of its scheduler gives what the pipeline gives by itself."""

import diffusers
import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.integrations.diffusers import Latents, Texts, teacher
from flowmaps.integrations.diffusers.folder import opened
from flowmaps.integrations.diffusers.schedulers import grid, noise_scale
from tests.integrations import tiny

pytestmark = pytest.mark.slow

STEPS, PROMPTS = 10, ["a cat", "two dogs, 3 birds"]
FEW = {"num_inference_steps": STEPS}
ALONE = {"guidance_scale": 1.0, "output_type": "latent"} | FEW


def noise_of(*shape):
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


def ours(folder, noise, condition, **options):
    """On the linear path, and at the end in the scale of the pipeline's latents, which have unit variance for DDIM."""
    model = teacher(folder)
    scheduler = opened(folder).part("scheduler")
    times = grid(scheduler, STEPS, **options)
    start = noise_scale(scheduler, STEPS, **options) * noise
    x, t = fm.sample(model, start, times=times, step=fm.steps.euler, condition=condition), times[-1]
    assert (x - start).norm() > 0.5 * start.norm()
    return x / (t**2 + (1 - t) ** 2) ** 0.5


def close(a, b, tolerance=2e-5):
    assert (a - b).norm() < tolerance * b.norm()


@pytest.fixture
def run(tmp_path):
    """(folder, the pipeline's own latents from the same noise) of a tiny pipeline that is told prompts."""

    def of(make, noise, **arguments):
        folder = make(tmp_path)
        pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
        pipeline.set_progress_bar_config(disable=True)
        with torch.no_grad():
            return folder, pipeline(prompt=PROMPTS, latents=noise, **ALONE, **arguments)[0]

    return of


def ddim(**config):
    return diffusers.DDIMScheduler(clip_sample=False, **config)


@pytest.mark.parametrize("classes", [None, 10])
@pytest.mark.parametrize(
    "scheduler",
    [ddim(), ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")],
)
def test_unet(classes, scheduler, tmp_path):
    """The loop of its pipelines, with the scheduler that is saved."""
    folder, noise = tiny.ddpm_unet(tmp_path, classes, scheduler=scheduler), noise_of(1, 8, 8)
    labels = None if classes is None else torch.tensor([3, classes])
    unet, x = diffusers.UNet2DModel.from_pretrained(folder, subfolder="unet"), noise
    scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        for k in scheduler.timesteps:
            x = scheduler.step(unet(x, k, labels).sample, k, x).prev_sample
    close(ours(folder, noise, None if classes is None else {"label": labels}), x)


def test_stable_diffusion(run):
    noise = noise_of(4, 8, 8)
    folder, expected = run(tiny.stable_diffusion, noise)
    close(ours(folder, noise, Texts(folder).encode(PROMPTS)), expected)


def test_sdxl(run):
    noise = noise_of(4, 8, 8)
    folder, expected = run(tiny.sdxl, noise)
    close(ours(folder, noise, Texts(folder).encode(PROMPTS)), expected)


def test_pixart(run):
    noise = noise_of(4, 8, 8)
    folder, expected = run(tiny.pixart, noise, use_resolution_binning=False, max_sequence_length=12)
    close(ours(folder, noise, Texts(folder, length=12).encode(PROMPTS)), expected)


def test_sd3(run):
    noise = noise_of(4, 8, 8)
    folder, expected = run(tiny.sd3, noise, max_sequence_length=12)
    close(ours(folder, noise, Texts(folder, length=12).encode(PROMPTS)), expected)


@pytest.mark.parametrize("guidance", [True, False])
def test_flux(guidance, run):
    """Its pipeline chooses the sigmas itself, and a shift by the number of tokens."""
    noise = noise_of(4, 8, 8)
    pipeline = diffusers.FluxPipeline
    packed = pipeline._pack_latents(noise, 2, 4, 8, 8)
    folder, expected = run(
        lambda folder: tiny.flux(folder, guidance), packed, height=16, width=16, max_sequence_length=12
    )
    mu = diffusers.pipelines.flux.pipeline_flux.calculate_shift(16)
    options = {"sigmas": np.linspace(1.0, 1 / STEPS, STEPS)} | ({"mu": mu} if guidance else {})
    condition = Texts(folder, length=12).encode(PROMPTS) | ({"guidance": torch.ones(2)} if guidance else {})
    close(ours(folder, noise, condition, **options), pipeline._unpack_latents(expected, 16, 16, 2))


def test_wan(run):
    noise = noise_of(4, 3, 8, 8)
    folder, expected = run(tiny.wan, noise, height=64, width=64, num_frames=9, max_sequence_length=12)
    close(ours(folder, noise, Texts(folder, length=12).encode(PROMPTS)), expected)


def test_dit_to_its_images(tmp_path):
    """The whole way: its labels, its noise, the decoder."""
    folder, labels = tiny.dit(tmp_path), [3, 7]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    seed = torch.Generator().manual_seed(5)
    expected = pipeline(labels, guidance_scale=1.0, generator=seed, output_type="np", **FEW).images
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    images = Latents(folder).decode(ours(folder, noise, {"label": torch.tensor(labels)}))
    assert 0.05 < expected.std() and ((expected > 0) & (expected < 1)).mean() > 0.5
    close((images / 2 + 0.5).clamp(0, 1), torch.from_numpy(expected).permute(0, 3, 1, 2), 1e-4)


def test_two_networks_for_two_parts_of_the_time(tmp_path):
    """Wan 2.2: one for the times above its boundary, one for those below."""
    made = diffusers.DiffusionPipeline.from_pretrained(tiny.wan(tmp_path / "one"))
    second = type(made.transformer).from_config(made.transformer.config)
    pipeline = diffusers.WanPipeline(**made.components | {"transformer_2": second.eval()}, boundary_ratio=0.6)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder := tmp_path / "two")
    noise, texts = noise_of(4, 3, 8, 8), Texts(folder, length=12)
    size = {"height": 64, "width": 64, "num_frames": 9, "max_sequence_length": 12}
    expected = pipeline(prompt=PROMPTS, latents=noise, **ALONE, **size)[0]
    x, times = noise, grid(pipeline.scheduler, STEPS)
    late = sum(t >= 0.6 for t in times)
    parts = {"transformer": times[: late + 1], "transformer_2": times[late:]}
    for source in (folder, pipeline):
        x = noise
        for name, part in parts.items():
            model = teacher(source, component=name)
            x = fm.sample(model, x, times=part, step=fm.steps.euler, condition=texts.encode(PROMPTS))
        close(x, expected)
    assert model.reading.known == (0.0, 0.6)
    with pytest.raises(ValueError, match="has 2 networks: choose one by component=, of transformer, transformer_2"):
        teacher(folder)


def test_a_loaded_pipeline_lends_its_network(tmp_path):
    folder = tiny.stable_diffusion(tmp_path)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    lent, own = teacher(pipeline, path=fm.path.trigonometric), teacher(folder, path=fm.path.trigonometric)
    assert lent.network.model is pipeline.unet and lent.path == fm.path.trigonometric
    assert not any(p.requires_grad for p in pipeline.unet.parameters()) and not pipeline.unet.training
    x, given = noise_of(4, 8, 8), Texts(pipeline).encode(PROMPTS)
    assert torch.equal(lent.given(**given).velocity(x, 0.3), own.given(**given).velocity(x, 0.3))
    half = teacher(folder, path=fm.path.trigonometric, dtype=torch.bfloat16).given(**given)
    assert half.network.model.dtype == torch.bfloat16 and half.velocity(x, 0.3).dtype == torch.float32
    close(half.velocity(x, 0.3), own.given(**given).velocity(x, 0.3), 0.05)


def test_what_the_network_misses_is_said(tmp_path):
    model = teacher(tiny.sdxl(tmp_path))
    x, text = noise_of(4, 8, 8), torch.zeros(2, 5, 16)
    with pytest.raises(
        ValueError, match=r"needs the conditions text \(B, L, 16\), pooled \(B, 8\), size \(B, 6\); missing: p"
    ):
        model.given(text=text).velocity(x, 0.5)
    complete = {"text": text, "pooled": torch.zeros(2, 8), "size": torch.zeros(2, 6)}
    with pytest.raises(ValueError, match="takes no condition 'label'; this model takes: text, pooled, size, mask"):
        model.given(**complete, label=torch.zeros(2)).velocity(x, 0.5)
    with pytest.raises(
        ValueError, match=r"'size' of UNet2DConditionModel has the shape \(B, 6\), .* 2 rows, .*\(1, 6\)"
    ):
        model.given(**complete | {"size": torch.zeros(1, 6)}).velocity(x, 0.5)
    with pytest.raises(ValueError, match=r"takes x of the shape \(B, 4, H, W\), but it got \(2, 3, 8, 8\)"):
        model.given(**complete).velocity(x[:, :3], 0.5)


def test_a_scheduler_that_cannot_be_read(tmp_path):
    folder = tiny.ddpm_unet(tmp_path, scheduler=diffusers.CMStochasticIterativeScheduler())
    with pytest.raises(ValueError, match="CMStochasticIterativeScheduler cannot be read"):
        teacher(folder)
