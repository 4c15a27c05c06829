"""The cells of `benchmarks.speech`: a head is trained on a set with a seed, and measured."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import flowmaps as fm
from benchmarks.speech.heads import HEADS, flow_of
from benchmarks.speech.sets import data_of
from benchmarks.tables import machine
from flowmaps.evaluate import energy_distance
from flowmaps.files import write_json
from flowmaps.sequences import teacher_forced, with_contexts

SECONDS = 480.0
"""Processor time of a training."""
PAST_NOISE = 0.1
"""Standard deviation of the noise on past frames in training."""
DRAWS, ROWS = 8, 512
"""Number of disjoint draws of frames, and of frames in each, for the distance of (previous, next) frames."""
SPOKEN, HEARD, LISTENING = 400, 1500, 12
"""Number of digits that are generated and recognised, of windows that the classifier learns from, and its epochs."""
TIMED = 5.0
"""Seconds of sound whose generation is timed."""
TRAINING: dict[str, Any] = {
    "batch_size": 16, "schedule": fm.training.WarmUpStableDecay(), "lr": 1e-3, "clip": 1.0, "progress_bar": False,
    "trackers": (), "sample_every": 0, "clock": "processor",
}  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """The cells of the tables.

    Args:
        out: Folder of the results.
        runs: Folder of recordings and weights.
        seconds: Processor time of each training.
    """

    out: Path
    runs: Path
    seconds: float

    def run(self, name: str, head: str, seed: int) -> None:
        """Train and measure a head, unless that is done."""
        target = self.out / name / f"{head}-{seed}.json"
        if target.exists():
            return
        data = data_of(name, self.runs)
        if not (bottom := self.out / name / "floor.json").exists():
            write_json(bottom, floor(name, data, self.runs))
        print(f"{name}: {head}, seed {seed}", flush=True)
        flow, spent = self.trained(name, head, data, seed)
        torch.manual_seed(seed + 100)
        about = {"set": name, "head": head, "seed": seed, "machine": machine(), "training": spent}
        write_json(target, about | {"samplers": measured(flow, head, name, data, self.runs)})

    def trained(self, name: str, head: str, data: fm.data.Data, seed: int) -> tuple[fm.FlowMap, dict[str, Any]]:
        """Train a head for its time; return its averaged weights and the cost. A run that was interrupted goes on."""
        entry = HEADS[head]
        torch.manual_seed(seed)
        method = teacher_forced(entry.method(), entry.repeats, PAST_NOISE, end=0.1)
        out = self.runs / f"{name}-{head}-{seed}-{self.seconds:g}s"
        options = {"seconds": self.seconds, "seed": seed, "out": out, "resume": out.exists()}
        last = fm.fit(flow_of(head, data), method, data, **options, **TRAINING)
        return last.ema.eval(), {"steps": last.step, "seconds": self.seconds}


def measured(flow: fm.FlowMap, head: str, name: str, data: fm.data.Data, runs: Path) -> dict[str, Any]:
    """The measures of every sampler of a head."""
    found = {}
    for title, (steps, step) in HEADS[head].samplers.items():
        seconds = {"seconds": generating(flow, steps, step), "head_seconds": of_head(flow, steps, step)}
        found[title] = seconds | next_frame(flow, data, steps, step)
        if name == "digits":
            found[title]["recognised"] = recognised(flow, data, runs, steps, step)
    many = list(found.values())[-1]["scores"]
    for value in found.values():
        gaps = value["scores"] - many
        value["score"] = estimate(value["scores"])
        value["score_beyond_last"] = estimate(gaps)
    for value in found.values():
        del value["scores"]
    return found


def estimate(values: Tensor) -> list[float]:
    """The mean of values, and its standard error."""
    return [float(values.mean()), float(values.std() / math.sqrt(len(values)))]


@torch.no_grad()
def next_frame(flow: fm.FlowMap, data: fm.data.Data, steps: int, step: Any) -> dict[str, Any]:
    """The next frame after held-out pasts, against the true one.

    The energy distance compares pairs (previous, next); each draw compares generated pairs with other true ones. The
    energy score E|X - x| - E|X - X'| / 2 of the next frame is least for the true conditional law; its values of all
    frames serve for paired differences.
    """
    pairs, contexts, x = held_out_frames(flow, data)
    one = flow.standardised()
    one.condition, one.trained = {"context": contexts}, None
    noise = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(7))
    first, second = (fm.sample(one, each, steps, step=step) for each in noise)
    score = torch.linalg.vector_norm(first - x, dim=1) - torch.linalg.vector_norm(first - second, dim=1) / 2
    made = torch.cat([pairs[:, : x.shape[1]], first], 1)
    values = distances(made, pairs)
    return {"distances": values, "scores": score.double()}


def held_out_frames(flow: fm.FlowMap, data: fm.data.Data) -> tuple[Tensor, Tensor, Tensor]:
    """(previous, next) frames of held-out recordings, with contexts of the flow, and the next ones; by chance."""
    batch = data.held_out(4096)
    label = {} if batch.label is None else {"label": batch.label}
    bound, rows = with_contexts(flow.given(**label), batch.x0)
    valid = batch.given["valid"].clone()
    valid[:, 0] = False
    chosen = valid.flatten().nonzero()[:, 0]
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(3))
    chosen = chosen[order[: 2 * DRAWS * ROWS]]
    return torch.cat([rows[chosen - 1], rows[chosen]], 1), bound.condition["context"][chosen], rows[chosen]


def distances(made: Tensor, true: Tensor) -> list[float]:
    """Energy distances of disjoint draws: made pairs against true pairs of other places."""
    size = min(ROWS, len(true) // (2 * DRAWS))
    parts = [slice(k * size, (k + 1) * size) for k in range(2 * DRAWS)]
    return [energy_distance(made[a], true[b]) for a, b in zip(parts[::2], parts[1::2], strict=True)]


def floor(name: str, data: fm.data.Data, runs: Path) -> dict[str, Any]:
    """The distance of true pairs to true pairs, and the share of real, re-synthesised digits that are recognised."""
    torch.manual_seed(0)
    pairs, _, _ = held_out_frames(flow_of("mean", data), data)
    values = distances(pairs, pairs)
    found: dict[str, Any] = {"distances": values}
    if name == "digits":
        held = data.held_out(4096)
        again = resynthesised(held.x0, held.given["valid"].sum(1), data)
        found["recognised"] = [float(v) for v in shares(listener(runs)(again).argmax(1) == held.label)]
        found["recognised_frames"] = [float(v) for v in shares(listener(runs)(held.x0).argmax(1) == held.label)]
    return found


class Listener(nn.Module):
    """A classifier of digits: three convolutions over frames, and the largest value of each feature."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        sizes = ((channels, 96, 1), (96, 128, 2), (128, 128, 2))
        self.layers = nn.ModuleList(nn.Conv1d(a, b, 5, stride, padding=2) for a, b, stride in sizes)
        self.output = nn.Linear(128, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes) of windows (B, T, C)."""
        h = x.transpose(1, 2)
        for layer in self.layers:
            h = layer(h).relu()
        return self.output(h.amax(2))


@cache
def listener(runs: Path) -> Listener:
    """A classifier that is trained on recordings that no head has seen, whole and re-synthesised."""
    torch.manual_seed(0)
    data, other = data_of("digits", runs), data_of("digits", runs, 1)
    batch = other.draw(HEARD, seed=0)
    assert data.units is not None and other.units is not None
    x = data.units.standardised(other.units.restored(batch.x0)) * batch.given["valid"][..., None]
    both = torch.cat([x, resynthesised(x, batch.given["valid"].sum(1), data)])
    label = batch.label.repeat(2)
    model = Listener(data.shape[1], 10)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(LISTENING):
        for rows in torch.randperm(len(both)).split(64):
            noisy = both[rows] + 0.1 * torch.randn_like(both[rows])
            loss = nn.functional.cross_entropy(model(noisy), label[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval().requires_grad_(False)


def resynthesised(x: Tensor, lengths: Tensor, data: fm.data.Data) -> Tensor:
    """Frames (B, T, C) as sound and back, each up to its length; frames after it are 0."""
    signal, again = data.signal, torch.zeros_like(x)
    assert signal is not None and data.units is not None
    for row, (frames, length) in enumerate(zip(data.units.restored(x), lengths.tolist(), strict=True)):
        if length >= 2:
            heard = signal.frames(signal.wave(frames[:length]))[:length]
            again[row, : len(heard)] = data.units.standardised(heard[None])[0]
    return again


def recognised(flow: fm.FlowMap, data: fm.data.Data, runs: Path, steps: int, step: Any) -> list[float]:
    """The share of generated digits that the classifier recognises after synthesis, with its standard error."""
    label = torch.arange(SPOKEN) % 10
    model = fm.Autoregressive.of(flow.standardised())
    made = model.generate(length=data.shape[0], steps=steps, step=step, condition=label, seed=11)
    x = torch.zeros(SPOKEN, *data.shape)
    x[:, : made.frames.shape[1]] = made.frames
    x = x * (torch.arange(data.shape[0]) < made.lengths[:, None])[..., None]
    found = listener(runs)(resynthesised(x, made.lengths, data)).argmax(1)
    return [float(value) for value in shares(found == label)]


def shares(right: Tensor) -> tuple[float, float]:
    """A share and its standard error."""
    share = float(right.double().mean())
    return share, math.sqrt(share * (1 - share) / len(right))


@torch.no_grad()
def generating(flow: fm.FlowMap, steps: int, step: Any) -> float:
    """Processor seconds to generate one second of frames for one row, without the transform."""
    model = fm.Autoregressive.of(flow.standardised())
    condition = None if model.network.backbone.start.label is None else torch.zeros(1, dtype=torch.long)
    frames = round(TIMED * 62.5)
    model.network.end.bias.data.sub_(1e6)  # no end, so that all frames are made
    try:
        spent = [timed(lambda: model.generate(length=frames, steps=steps, step=step, condition=condition, rows=1))
                 for _ in range(3)]  # fmt: skip
    finally:
        model.network.end.bias.data.add_(1e6)
    return median(spent) / TIMED


@torch.no_grad()
def of_head(flow: fm.FlowMap, steps: int, step: Any) -> float:
    """Processor seconds of the head for one frame of one row."""
    channels = flow.network.head.shape[0]
    one = flow.standardised()
    one.condition, one.trained = {"context": torch.randn(1, flow.network.backbone.size)}, None
    noise = torch.randn(1, channels)
    times = fm.sampling.time_grid(steps)

    def run() -> None:
        x = noise
        for s, t in zip(times, times[1:], strict=False):
            x = step(one, x, s, t)

    run()
    return median(timed(run) for _ in range(50))


def timed(run: Any) -> float:
    """Processor seconds of a call."""
    began = time.process_time()
    run()
    return time.process_time() - began
