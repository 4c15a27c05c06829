"""Guidance of a pipeline's model is the pipeline's own guidance, with an empty prompt and with a negative one."""

import diffusers
import pytest
import torch

import flowmaps as fm
from flowmaps.guidance import classifier_free
from flowmaps.integrations.diffusers import Texts, teacher
from flowmaps.integrations.diffusers.folder import opened
from flowmaps.integrations.diffusers.schedulers import grid, noise_scale
from tests.integrations import tiny

STEPS, PROMPTS, SCALE = 8, ["a cat", "two dogs, 3 birds"], 4.0


@pytest.mark.parametrize(
    ("make", "negative", "limits"),
    [
        (tiny.sdxl, "a dog", {}),
        (tiny.pixart, "birds", {"max_sequence_length": 12, "use_resolution_binning": False}),
    ],
    ids=["sdxl", "pixart"],
)
def test_the_scale_of_a_pipeline_is_ours(make, negative, limits, tmp_path):
    folder = make(tmp_path)
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    told = {"guidance_scale": SCALE, "num_inference_steps": STEPS, "output_type": "latent", **limits}
    with torch.no_grad():
        expected = pipeline(prompt=PROMPTS, negative_prompt=[negative] * 2, latents=noise, **told)[0]
    texts = Texts(folder, length=12) if "max_sequence_length" in limits else Texts(folder)
    guided = classifier_free(teacher(folder), SCALE, null=texts.encode([negative]))
    scheduler = opened(folder).part("scheduler")
    times = grid(scheduler, STEPS)
    start = noise_scale(scheduler, STEPS) * noise
    x = fm.sample(guided, start, times=times, step=fm.steps.euler, condition=texts.encode(PROMPTS))
    unguided = fm.sample(teacher(folder), start, times=times, step=fm.steps.euler, condition=texts.encode(PROMPTS))
    assert (x - unguided).norm() > 1e-3 * x.norm()
    x = x / (times[-1] ** 2 + (1 - times[-1]) ** 2) ** 0.5
    assert (x - expected).norm() < 2e-4 * expected.norm()
