"""Sample a pipeline folder with diffusers alone, in a separate process:  python plain.py FOLDER IN OUT --steps 1 2 4

IN is a .npz with noise (N, 1, 8, 8) and label (N,). OUT is a .npz with samples and seconds for each number of steps.
With --guidance the folder is the teacher's, sampled with its own scheduler and classifier-free guidance; otherwise it
is an export, sampled by calling the pipeline. Neither this script nor the loaded code imports flowmaps.
"""

import argparse
import sys
import time

import numpy as np
import torch

sys.modules["flowmaps"] = None  # makes its import fail

NULL = 10
BATCH = 256


@torch.no_grad()
def by_its_scheduler(pipeline, noise, label, steps, guidance):
    """The loop of diffusers' pipelines for this class-conditional network; diffusers has no such pipeline."""
    unet, scheduler = pipeline.unet, pipeline.scheduler
    scheduler.set_timesteps(steps)
    x = noise * scheduler.init_noise_sigma
    both = torch.cat((torch.full_like(label, NULL), label))
    for t in scheduler.timesteps:
        if guidance == 1:
            answer = unet(x, t, class_labels=label).sample
        else:
            null, given = unet(torch.cat((x, x)), t, class_labels=both).sample.chunk(2)
            answer = null + guidance * (given - null)
        x = scheduler.step(answer, t, x).prev_sample
    return x


def by_jumps(pipeline, noise, label, steps, guidance):
    """Call the exported pipeline."""
    return pipeline(class_labels=label, latents=noise, num_inference_steps=steps, output_type="latent").images


def main():
    """Sample a folder."""
    from diffusers import DiffusionPipeline

    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("given")
    parser.add_argument("out")
    parser.add_argument("--steps", type=int, nargs="+")
    parser.add_argument("--guidance", type=float)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)  # another seed than the initial noise
    pipeline = DiffusionPipeline.from_pretrained(options.folder, trust_remote_code=options.guidance is None)
    pipeline.set_progress_bar_config(disable=True)
    made = by_jumps if options.guidance is None else by_its_scheduler
    given = np.load(options.given)
    noise, label = torch.from_numpy(given["noise"]), torch.from_numpy(given["label"])
    found = {}
    made(pipeline, noise[:8], label[:8], 1, options.guidance)  # the first call includes one-time preparation
    for steps in options.steps:
        start = time.perf_counter()
        parts = [
            made(pipeline, rows, labels, steps, options.guidance)
            for rows, labels in zip(noise.split(BATCH), label.split(BATCH), strict=True)
        ]
        found[f"seconds_{steps}"] = (time.perf_counter() - start) / len(noise)
        found[f"x_{steps}"] = torch.cat(parts).numpy()
    np.savez(options.out, **found)


if __name__ == "__main__":
    main()
