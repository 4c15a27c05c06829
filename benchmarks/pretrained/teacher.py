"""The teacher: a class-conditional diffusers U-Net of the handwritten digits:  python -m benchmarks.pretrained.teacher

It is trained with diffusers alone and saved as a pipeline; flowmaps only provides the split of the digits. The network
(UNet2DModel), the noise schedule (DDPMScheduler, linear betas, v-prediction), the average of the weights (EMAModel),
the learning rate (get_cosine_schedule_with_warmup) and the loop of add_noise, forward and mean squared error are from
the tutorials of diffusers. A label dropout of 10%, with an eleventh class as null class, makes guidance possible.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from diffusers import DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader, TensorDataset

import flowmaps as fm
from benchmarks.tables import machine

FOLDER = Path("runs/pretrained/teacher")
NULL = 10
"""The null class."""


def network() -> UNet2DModel:
    """0.7 million weights, with attention at 4 x 4."""
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=16,
        norm_num_groups=8,
        num_class_embeds=NULL + 1,
    )


def train(folder: Path, steps: int, batch_size: int = 64, lr: float = 1e-3, seed: int = 0) -> None:
    """Train the network and save a pipeline with the averaged weights."""
    torch.manual_seed(seed)
    rows = next(fm.data.load("digits").batches(1437))
    loader = DataLoader(TensorDataset(rows.x0, rows.label), batch_size=batch_size, shuffle=True, drop_last=True)
    unet = network()
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear", prediction_type="v_prediction")
    optimizer = torch.optim.AdamW(unet.parameters(), lr=lr, weight_decay=0.0)
    rate = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=200, num_training_steps=steps)
    average = EMAModel(unet.parameters(), decay=0.999, use_ema_warmup=True)
    accelerator = Accelerator(cpu=not torch.accelerator.is_available())
    unet, optimizer, loader, rate = accelerator.prepare(unet, optimizer, loader, rate)
    start, step = time.perf_counter(), 0
    while step < steps:
        for x0, label in loader:
            label = label.masked_fill(torch.rand(len(label)) < 0.1, NULL)
            noise = torch.randn_like(x0)
            k = torch.randint(scheduler.config.num_train_timesteps, (len(x0),))
            predicted = unet(scheduler.add_noise(x0, noise, k), k, class_labels=label).sample
            loss = F.mse_loss(predicted, scheduler.get_velocity(x0, noise, k))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(unet.parameters(), 1.0)
            optimizer.step()
            rate.step()
            optimizer.zero_grad()
            average.step(unet.parameters())
            step += 1
            if step % 500 == 0:
                print(f"step {step}: loss {loss.item():.4f}, {time.perf_counter() - start:.0f} s", flush=True)
            if step == steps:
                break
    average.copy_to(unet.parameters())
    sampler = DDIMScheduler.from_config(scheduler.config, timestep_spacing="trailing", clip_sample=False)
    DDPMPipeline(accelerator.unwrap_model(unet), sampler).save_pretrained(folder)
    notes = {"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "machine": machine()}
    notes["seconds"] = round(time.perf_counter() - start)
    (folder / "training.json").write_text(json.dumps(notes, indent=1) + "\n")


def main() -> None:
    """Train the teacher."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=9000)
    options = parser.parse_args()
    train(options.out, options.steps)


if __name__ == "__main__":
    main()
