"""Section 6 of the post, "Efficient steering": inpainting, deblurring and super-resolution by a map of digits.

    python examples/16_inverse_problems.py

Trains iMF on handwritten digits for a few seconds, then restores held-out digits from noisy measurements, with 16
draws for each. The likelihood of the denoised state, widened by its uncertainty, steers an ancestral sampler (`dps`).
The size of the published correction is fixed, whatever the noise of the measurement.
"""

import math
from pathlib import Path

import torch
from _pictures import run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light
from flowmaps.visualise import mosaic

KEPT = torch.ones(8, 8)
KEPT[2:6, 2:6] = 0
OPERATORS = {
    "inpainting": fm.rewards.mask(KEPT),
    "deblurring": fm.rewards.blur(0.8),
    "super-resolution": fm.rewards.downsample(2),
}
STD, DRAWS, DIGITS = 0.05, 16, 16


def main(out: Path, steps: int = 1000) -> dict[str, float]:
    data = fm.data.load("digits")
    flow = fm.recipes.small_images(data, width=128, depth=3)
    method = fm.methods.imf(diagonal=0.75, times=fm.times.uniform_triangle(1e-3), power=0)
    flow, truth = trained(flow, method, data, steps), data.held_out(DIGITS).x0
    noise, shown, found = torch.randn(DRAWS * DIGITS, *data.shape), {"truth\n": truth}, {}
    for name, A in OPERATORS.items():
        y = A(truth) + STD * torch.randn_like(A(truth))
        reward = fm.rewards.Likelihood(A, y.repeat(DRAWS, *[1] * (y.ndim - 1)), STD)
        for kind, step in (
            ("dps", fm.steering.dps(reward)),
            ("published dps", fm.steering.dps(reward, published=True)),
        ):
            x = fm.sample(flow, noise, 50, step=step, seed=0)
            residual = (A(x) - reward.y).square().mean().sqrt() / STD
            draws = x.unflatten(0, (DRAWS, DIGITS))
            found[f"residual / noise, {name}, {kind}"] = float(residual)
            found[f"PSNR of the mean, {name}, {kind}"] = psnr(draws.mean(0), truth)
        shown[f"{name}\nthree draws, mean"] = torch.cat([draws[k, :8] for k in (0, 1, 2)] + [draws.mean(0)[:8]])
    with figure(light, 9, 4.6, out, ncols=4, width_ratios=[1, 4, 4, 4]) as (_, axes):
        for axis, (title, x) in zip(axes, shown.items(), strict=True):
            rows = x[:8] if title == "truth\n" else x.unflatten(0, (4, 8)).transpose(0, 1).flatten(0, 1)
            axis.imshow(mosaic(data.to_pixels(rows), 1 if title == "truth\n" else 4).numpy())
            axis.set(title=title)
            axis.axis("off")
    return found


def psnr(x, truth):
    """Peak signal-to-noise ratio in dB, of images in [-1, 1]."""
    return 10 * math.log10(4 / float((x - truth).square().mean()))


if __name__ == "__main__":
    run(main)
