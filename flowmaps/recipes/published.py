"""Recipes with the settings of papers, at sizes that need GPUs; `differs` lists the differences to the paper.

None was trained at these sizes; the code path of each is tested with a small network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from .. import guidance
from ..arguments import did_you_mean
from ..data.transforms import LabelDropout, mirrored
from ..methods import ayf_emd, ect, flow_matching, imf, meanflow, papers
from ..networks import DiT, UNet, gap
from ..times.samplers import logit_normal_pairs
from ..training.schedule import WarmUp, WarmUpDecay
from ..weight import adaptive
from .planned import P, Planned
from .pretrained import PRETRAINED
from .published_sequences import SPEECH_RECIPES
from .published_texts import TEXTS
from .recipe import Recipe

IMAGENET_EPOCH = 1_281_167 // 256
"""Steps of one pass over ImageNet in batches of 256."""
CIFAR_EPOCH = 50_000 // 1024
"""Steps of one pass over CIFAR-10 in batches of 1024."""

LATENTS: dict[str, Any] = {
    "data": "ImageNet as scaled latents of an autoencoder with class labels, in a .safetensors or .npy file",
    "shape": (4, 32, 32),
    "classes": 1000,
    "change": (LabelDropout(0.1, null=1000),),
    "small": {"width": 16, "depth": 2, "heads": 2},
    "batch_size": 256,
    "lr": 1e-4,
}
IMAGES: dict[str, Any] = {
    "data": "CIFAR-10, hf:uoft-cs/cifar10 or a folder of its images",
    "shape": (3, 32, 32),
    "classes": None,
    "network": partial(UNet, width=128, multipliers=(2, 2, 2), blocks=4, attention=(16,), times=gap),
    "small": {"width": 8, "multipliers": (1, 1), "blocks": 1},
}
DITS: dict[str, Callable[..., torch.nn.Module]] = {
    "b4": partial(DiT, patch=4, width=768, depth=12, heads=12, times=gap),
    "b2": partial(DiT, patch=2, width=768, depth=12, heads=12, times=gap),
    "l2": partial(DiT, patch=2, width=1024, depth=24, heads=16, times=gap),
    "xl2": partial(DiT, patch=2, width=1152, depth=28, heads=16, times=gap),
}
OUR_DIT = (
    "the DiT has RMS normalisation, normalised queries and keys and 16 frequencies of O(1) for each time; 10000 rows "
    "are held out"
)
OUR_UNET = "a U-Net of 58 million weights of our own instead of DDPM++ (55 million), without dropout"


NULL = {"label": 1000}
GUIDANCE = {
    "b4": guidance.meanflow(2.0, 0.5, null=NULL),
    "b2": guidance.meanflow(2.0, 0.5, null=NULL),
    "xl2": guidance.meanflow(2.5, 0.92, null=NULL, interval=(0.0, 0.75)),
}
"""MeanFlow's omega = 1, kappa = 0.5, and omega = 0.2, kappa = 0.92 for s up to 0.75, as in arXiv 2510.20771 too."""


def meanflow_on_latents(size: str, fid: str) -> Recipe:
    """MeanFlow's main setting: 240 epochs in batches of 256 at a constant rate.

    Args:
        size: Size of the DiT, a key of `DITS`.
        fid: The published result.

    Returns:
        The recipe.
    """
    unknown = (
        ""
        if size in GUIDANCE
        else "no guidance in training, which the published number needs, as its values are unknown; "
    )
    return Recipe(
        name=f"imagenet256-dit-{size}-meanflow",
        network=DITS[size],
        method=partial(meanflow, diagonal=0.75, times=logit_normal_pairs(-0.4, 1.0), weight=adaptive(1.0, 1e-2)),
        steps=240 * IMAGENET_EPOCH,
        paper=papers.GENG2025MEAN,
        where="the paper's main table, and the settings of its official code",
        published=fid,
        differs=f"{unknown}{OUR_DIT}",
        guidance=GUIDANCE.get(size),
        **LATENTS,
    )


def teacher_on_latents(size: str) -> Recipe:
    """Flow matching: a velocity network as a teacher."""
    return Recipe(
        name=f"imagenet256-dit-{size}-flow-matching",
        network=DITS[size],
        method=flow_matching,
        steps=80 * IMAGENET_EPOCH,
        precision="bf16",
        paper=papers.LIPMAN2023FLOW,
        where="ours: the optimiser of the MeanFlow recipes, 80 epochs",
        differs=f"settings of our own; {OUR_DIT}",
        **LATENTS,
    )


def distilled_on_latents(size: str) -> Recipe:
    """Align Your Flow, distilled from the flow-matching recipe of the same size."""
    teacher = f"imagenet256-dit-{size}-flow-matching"
    return Recipe(
        name=f"imagenet256-dit-{size}-ayf-emd",
        network=DITS[size],
        method=ayf_emd,
        steps=20 * IMAGENET_EPOCH,
        clip=1.0,
        precision="bf16",
        teacher=teacher,
        start=teacher,
        paper=papers.SABOUR2025ALIGN,
        where="the loss is the paper's; batch, rate and length are ours",
        differs=f"no autoguidance and no adversarial stage, which the paper's numbers have; {OUR_DIT}",
        **LATENTS,
    )


CIFAR_MEANFLOW: dict[str, Any] = {
    "diagonal": 0.25,
    "times": logit_normal_pairs(-2.0, 2.0),
    "weight": adaptive(0.75, 1e-3),
}
CIFAR_RUN: dict[str, Any] = {
    **IMAGES,
    "change": (mirrored,),
    "steps": 16_000 * CIFAR_EPOCH,
    "batch_size": 1024,
    "lr": 6e-4,
    "optimizer": torch.optim.Adam,
    "schedule": WarmUp(200 / 16_000),
}
"""MeanFlow's CIFAR-10 setting."""

RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="cifar10-unet-flow-matching",
            method=flow_matching,
            change=(mirrored,),
            steps=400_000,
            batch_size=512,
            lr=2e-4,
            schedule=WarmUpDecay(),
            paper=papers.LIPMAN2023FLOW,
            where="ours: a model for easy consistency tuning to start from",
            differs="settings of our own",
            **IMAGES,
        ),
        Recipe(
            name="cifar10-unet-meanflow",
            method=partial(meanflow, **CIFAR_MEANFLOW),
            paper=papers.GENG2025MEAN,
            where="the paper's CIFAR-10 setting, as in the official code (cifar10_v0)",
            published="FID 2.92 in one step",
            differs=f"mirrored images instead of EDM's augmentation; {OUR_UNET}",
            **CIFAR_RUN,
        ),
        Recipe(
            name="cifar10-unet-imf",
            method=partial(imf, **CIFAR_MEANFLOW),
            paper=papers.GENG2025IMPROVED,
            where="ours: the improved loss in MeanFlow's CIFAR-10 setting",
            differs=f"the paper has no CIFAR-10; {OUR_UNET}",
            **CIFAR_RUN,
        ),
        Recipe(
            name="cifar10-unet-ect",
            method=ect,
            steps=200_000,
            batch_size=128,
            lr=1e-4,
            optimizer=torch.optim.RAdam,
            start="cifar10-unet-flow-matching",
            paper=papers.GENG2024CONSISTENCY,
            where="the official code (run_ecm, 200k steps)",
            published="FID 3.86 in one step",
            differs=f"it starts from a flow-matching model of ours instead of EDM's, on the linear path; {OUR_UNET}",
            **IMAGES,
        ),
        meanflow_on_latents("b4", "FID 11.35 in one step with guidance, 48.16 without"),
        meanflow_on_latents("b2", "FID 6.17 in one step with guidance"),
        meanflow_on_latents("l2", "FID 3.84 in one step with guidance"),
        meanflow_on_latents("xl2", "FID 3.43 in one step with guidance"),
        Recipe(
            name="imagenet256-dit-b2-imf",
            network=DITS["b2"],
            method=partial(imf, diagonal=0.5, times=logit_normal_pairs(-0.4, 1.0), weight=adaptive(1.0, 1e-2)),
            steps=240 * IMAGENET_EPOCH,
            paper=papers.GENG2025IMPROVED,
            where="the first step of the paper's ablation, the flow's own velocity in MeanFlow's setting",
            published="FID 29.42 in one step without guidance, 5.97 with it",
            differs=f"batch, rate and guidance are MeanFlow's; {OUR_DIT}",
            guidance=GUIDANCE["b2"],
            **LATENTS,
        ),
        teacher_on_latents("b4"),
        distilled_on_latents("b4"),
        teacher_on_latents("xl2"),
        distilled_on_latents("xl2"),
        *TEXTS,
        *SPEECH_RECIPES,
    )
}


def find(name: str) -> Recipe:
    """The recipe with this name. Raises ValueError for an unknown name."""
    if name in PRETRAINED:
        raise ValueError(
            f"{name} starts from a pretrained pipeline: flowmaps plan {name} says how flowmaps distill runs it"
        )
    return _found(name, RECIPES)


def find_any(name: str) -> Planned:
    """The recipe or distillation with this name. Raises ValueError for an unknown name."""
    known: dict[str, Planned] = {**RECIPES, **PRETRAINED}
    return _found(name, known)


def _found(name: str, known: Mapping[str, P]) -> P:
    """The value of a name. Raises ValueError for an unknown name, with the closest ones."""
    if name not in known:
        raise ValueError(f"unknown recipe {name!r}{did_you_mean(name, known)}; known are {', '.join(known)}")
    return known[name]
