"""The cells of `benchmarks.text`: a model is trained on a set with a seed, and measured."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from benchmarks.tables import machine
from benchmarks.text.models import DIFFUSION, FLOOR, MODELS, SIZES
from benchmarks.text.sets import data_of
from flowmaps.evaluate.token_measures import known_words
from flowmaps.files import write_json

SAMPLES, HELD_OUT, SHOWN, ROWS = 1000, 512, 8, 250
"""Number of samples, of held-out rows for the likelihood, of samples that are stored, and of rows in a call."""
REFERENCE, GRAM = 20_000, 4
"""Number of training windows that samples are compared with, and length of the n-grams."""
TRAINING: dict[str, Any] = {
    "batch_size": 64, "schedule": fm.training.WarmUpStableDecay(), "lr": 3e-3, "clip": 1.0, "labels": False,
    "progress_bar": False, "trackers": (), "sample_every": 0, "clock": "processor",
}  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """The cells of the tables.

    Args:
        out: Folder of the results.
        runs: Folder of the weights.
        seconds: Processor time of each training.
    """

    out: Path
    runs: Path
    seconds: float

    def run(self, name: str, model: str, seed: int) -> None:
        """Train and measure a model, unless that is done."""
        target = self.out / name / f"{model}-{seed}.json"
        if target.exists():
            return
        if not (bottom := self.out / name / "floor-0.json").exists():
            write_json(bottom, floor(name))
        print(f"{name}: {model}, seed {seed}", flush=True)
        flow, spent = self.trained(name, model, seed)
        torch.manual_seed(seed + 100)
        about = {"set": name, "model": model, "seed": seed, "machine": machine(), "training": spent}
        write_json(target, about | measured(flow, name, model))

    def trained(self, name: str, model: str, seed: int) -> tuple[fm.FlowMap, dict[str, Any]]:
        """Train a model for its time; return its averaged weights and the cost. A run that was interrupted goes on."""
        entry, data = MODELS[model], data_of(name)
        torch.manual_seed(seed)
        length, vocabulary = data.shape
        network = fm.networks.TokenTransformer(vocabulary, length, **SIZES, causal=entry.causal)
        flow = fm.FlowMap(network, fm.Endpoint(link=fm.links.softmax))
        if entry.taught:
            teacher, _ = self.trained(name, DIFFUSION, seed)
            flow.load_state_dict(teacher.state_dict())
        method = entry.method(teacher=teacher) if entry.taught else entry.method()
        out = self.runs / f"{name}-{model}-{seed}-{self.seconds:g}s"
        options = {"seconds": self.seconds, "seed": seed, "out": out, "resume": out.exists()}
        last = fm.fit(flow, method, data, **options, **TRAINING)
        return last.ema.eval(), {"steps": last.step, "seconds": self.seconds}


def measured(flow: fm.FlowMap, name: str, model: str) -> dict[str, Any]:
    """Bits a character on held-out text, and the distances of samples at every number of calls."""
    entry, data = MODELS[model], data_of(name)
    rows = data.held_out(HELD_OUT, 0).x0
    nats = torch.cat([entry.nats(flow, part) for part in rows.split(64)]).double()
    bits = nats / math.log(2) / data.shape[0]
    found: dict[str, Any] = {"bits": {"mean": float(bits.mean()), "stderr": float(bits.std() / len(bits) ** 0.5)}}
    found["rows"] = [sampled(flow, name, way, calls, draw) for (way, calls), draw in entry.samplers.items()]
    return found


def sampled(flow: fm.FlowMap, name: str, way: str, calls: int, draw: Callable[..., Tensor]) -> dict[str, Any]:
    """Samples by one sampler: their measures, their cost and the first of them."""
    data, began = data_of(name), time.process_time()
    with torch.no_grad():
        x = torch.cat([draw(flow, ROWS, data.shape) for _ in range(SAMPLES // ROWS)])
    seconds = (time.process_time() - began) / SAMPLES
    tokens = x.argmax(-1)
    texts = data.vocabulary.decode(tokens[:SHOWN])
    calls = calls or data.shape[0]
    return {"way": way, "calls": calls, "seconds_per_row": seconds, "texts": texts} | measures(tokens, name)


def measures(tokens: Tensor, name: str) -> dict[str, dict[str, float]]:
    """The measures of rows of tokens (N, L), each with its standard error."""
    data, reference = data_of(name), reference_of(name)
    parts = [fm.evaluate.ngram_tv(part, reference, GRAM) for part in tokens.chunk(4)]
    spread = float(torch.tensor(parts, dtype=torch.float64).std() / 2)
    entropy = fm.evaluate.token_entropy(tokens)
    valid = fm.evaluate.valid_share(data.vocabulary.decode(tokens), words_of(name), cut=True)
    return {
        "tv": {"mean": fm.evaluate.ngram_tv(tokens, reference, GRAM), "stderr": spread},
        "entropy": {"mean": entropy.value, "stderr": entropy.stderr},
        "valid": {"mean": valid.value, "stderr": valid.stderr},
    }


@cache
def reference_of(name: str) -> Tensor:
    """Tokens of the windows of the training text that samples are compared with."""
    return data_of(name).draw(REFERENCE, 5).x0.argmax(-1)


@cache
def words_of(name: str) -> frozenset[str]:
    """The words of the training text."""
    return known_words(data_of(name)) or frozenset()


def floor(name: str) -> dict[str, Any]:
    """The cell of text itself, measured as samples are: other windows of the training text, and of the last book."""
    data, rows = data_of(name), []
    for way, drawn in (("training", data.draw(SAMPLES, 3)), ("held-out", data.held_out(SAMPLES, 3))):
        tokens = drawn.x0.argmax(-1)
        texts = data.vocabulary.decode(tokens[:SHOWN])
        rows.append({"way": way, "calls": 0, "texts": texts} | measures(tokens, name))
    return {"set": name, "model": FLOOR, "seed": 0, "machine": machine(), "rows": rows}
