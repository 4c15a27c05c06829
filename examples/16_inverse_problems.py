"""Section 6 of the post, "Efficient steering": inpainting, deblurring and super-resolution by a map of digits.

    python examples/16_inverse_problems.py

Held-out digits are restored from noisy measurements, 16 draws for each, by `dps` and by its published form.
"""

import torch
from _pictures import images, psnr, run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

R, KEPT = fm.rewards, torch.ones(8, 8)
KEPT[2:6, 2:6] = 0
OPERATORS = {"inpainting": R.mask(KEPT), "deblurring": R.blur(0.8), "super-resolution": R.downsample(2)}


def main(out, steps=1000):
    data, std = fm.data.load("digits"), 0.05
    flow = trained(fm.recipes.small_images(data, width=128, depth=3), fm.recipes.method_for(data), data, steps)
    truth, noise, found = data.held_out(16).x0, torch.randn(256, *data.shape), {}
    with figure(light, 9, 4.6, out, ncols=4, width_ratios=[1, 4, 4, 4]) as (_, axes):
        images(axes[0], data.to_pixels(truth[:8]), 1, "truth\n")
        for axis, (name, A) in zip(axes[1:], OPERATORS.items(), strict=True):
            y = A(truth) + std * torch.randn_like(A(truth))
            reward = R.Likelihood(A, torch.cat([y] * 16), std)
            for kind, published in (("published dps", True), ("dps", False)):
                x = fm.sample(flow, noise, 50, step=fm.steering.dps(reward, published=published), seed=0)
                found[f"residual / noise, {name}, {kind}"] = float((A(x) - reward.y).square().mean().sqrt() / std)
                found[f"PSNR of the mean, {name}, {kind}"] = psnr(x.unflatten(0, (16, 16)).mean(0), truth)
            draws = x.unflatten(0, (16, 16))[:, :8]
            shown = torch.stack([*draws[:3], draws.mean(0)], 1).flatten(0, 1)
            images(axis, data.to_pixels(shown), 4, f"{name}\nthree draws, mean")
    return found


if __name__ == "__main__":
    run(main)
