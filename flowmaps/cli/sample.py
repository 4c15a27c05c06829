"""`flowmaps sample`."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from .. import steps
from ..experiments.guided_run import at_scale, is_told, trained_scales
from ..flow_map import FlowMap
from ..guidance import Guided
from ..runs.folder import read_config
from ..runs.loading import load
from ..sampling import sample
from .models import device
from .options import Sample
from .prompted import decoded, has_pipeline, text_conditions
from .scales import interval_of
from .tables import say


def run_sample(options: Sample) -> None:
    """Draw samples and write them. Raises ValueError for a file type, a label or a number of samples that cannot be."""
    if options.out.suffix not in (".png", ".npy"):
        raise ValueError(f"samples are written as .png or .npy, got {options.out}")
    if options.n < 1:
        raise ValueError(f"the number of samples must be at least 1, got {options.n}")
    config = read_config(options.run)
    flow = load(options.run, ema=options.ema).to(device())
    noise = torch.randn(options.n, *config["data"]["shape"], generator=torch.Generator().manual_seed(options.seed))
    noise = (noise * flow.path.sigma(torch.ones(()))).to(flow.like)
    label = labels(options, config)
    source, told = guided(options, flow, config)
    step = step_of(options, source)
    condition = told | ({} if label is None else {"label": label})
    condition |= text_conditions(flow, config, options.prompt, options.n)
    x = sample(source, noise, options.steps, step=getattr(steps, step), condition=condition, seed=options.seed).cpu()
    kind = config["data"]["kind"]
    if kind == "vectors" and options.out.suffix == ".png" and has_pipeline(config):
        x, kind = decoded(config, x), "images"
    write(options, x, kind)
    say(f"{options.n} samples of {config['data']['name']}, {options.steps} x {step}: {options.out}")


def guided(options: Sample, flow: FlowMap, config: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """What to follow, and what it is told beside the label: the flow map itself where no guidance is asked for. Raises
    ValueError for an interval of no guidance, and for what the run does not know of it.
    """
    if options.guidance is None:
        if options.guidance_interval is not None:
            raise ValueError("--guidance-interval says when guidance acts, and there is none: it needs --guidance")
        return flow, {}
    low, high = trained_scales(flow)
    if is_told(flow.network) and not low <= options.guidance <= high:
        warnings.warn(
            f"this run was trained with scales from {low:g} to {high:g}, and never saw {options.guidance:g}",
            stacklevel=1,
        )
    source, told = at_scale(flow, config, options.guidance, interval_of(options.guidance_interval))
    return source, {name: value.to(flow.like.device).expand(options.n) for name, value in told.items()}


def step_of(options: Sample, flow: Any) -> str:
    """The step that was named; by default the one that the map has, and Euler steps of a velocity that is guided."""
    if options.step != "auto":
        return options.step
    if isinstance(flow, Guided):
        return "euler"
    return "restart" if flow.only_target == 0.0 and options.steps > 1 else "jump"


def labels(options: Sample, config: dict[str, Any]) -> Tensor | None:
    """The label of each sample, None for a network that takes none."""
    classes = config["data"]["classes"] if config["training"]["labels"] else None
    if classes is None:
        if options.label is not None:
            raise ValueError(f"the model in {options.run} was trained without class labels, so --label cannot be given")
        return None
    if options.label is None:
        return torch.arange(options.n, device=device()) % classes
    if not 0 <= options.label < classes:
        raise ValueError(f"--label must be at least 0 and below the number of classes, {classes}, got {options.label}")
    return torch.full((options.n,), options.label, device=device())


def write(options: Sample, x: Tensor, kind: str) -> None:
    """The samples as an array, or as a picture of images or points."""
    if options.out.suffix == ".png" and kind == "vectors":
        raise ValueError("only images and points in the plane can be drawn: write the samples to a .npy file")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if options.out.suffix == ".npy":
        import numpy as np

        return np.save(options.out, x.numpy())
    from .. import visualise

    if kind == "images":
        visualise.grid((x + 1) / 2, options.out)
    else:
        visualise.points(x, options.out)
