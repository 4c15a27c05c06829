"""Students of pipelines as pipeline folders, sampled by diffusers in a process that has no flowmaps."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import flowmaps as fm
from flowmaps import export, students
from flowmaps.integrations.diffusers import Latents, Texts, teacher

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "export")]
import tiny  # noqa: E402
from plain import assert_same, sampled  # noqa: E402

JUMPS = (1, 2, 4)
PROMPTS = ["a cat", "two dogs"]


@dataclass(frozen=True)
class Case:
    """A tiny pipeline, how its student is told times, and how its pipeline is called."""

    make: Any
    shape: tuple = (4, 8, 8)
    options: dict = field(default_factory=dict)
    call: dict = field(default_factory=lambda: {"prompt": PROMPTS, "output_type": "latent"})
    guidance: float | None = None
    prompts: bool = True


LABELS = {"class_labels": [1, 2], "output_type": "latent"}
CASES = {
    "ddpm_unet": Case(
        lambda folder: tiny.ddpm_unet(folder, classes=3), (1, 8, 8), {"told": ("guidance",)}, LABELS, 3.0
    ),
    "stable_diffusion": Case(tiny.stable_diffusion, options={"told": ("guidance",)}, guidance=2.5),
    "sdxl": Case(tiny.sdxl, options={"times": students.decoupled}),
    "dit": Case(tiny.dit, call={"class_labels": [1, 2], "output_type": "pt"}, prompts=False),
    "sd3": Case(tiny.sd3, options={"tame": False}),
    "flux": Case(tiny.flux, options={"told": ("guidance",)}, guidance=2.0),
    "schnell": Case(lambda folder: tiny.flux(folder, guidance=False), options={"times": students.decoupled}),
    "pixart": Case(tiny.pixart, options={"times": students.decoupled}),
    "wan": Case(tiny.wan, (4, 3, 8, 8)),
}


def student(case, folder):
    """Of a tiny pipeline, all that is new in it moved away from zero."""
    torch.manual_seed(0)
    flow = fm.student(teacher(case.make(folder)), **case.options)
    with torch.no_grad():
        for part in (flow.network.new, flow.network.tame):
            for weight in () if part is None else part.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return flow.eval()


def noise_of(case):
    return torch.randn(2, *case.shape, generator=torch.Generator().manual_seed(3))


def packed(x):
    """As FluxPipeline has its latents."""
    B, C, H, W = x.shape
    return x.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(B, H * W // 4, 4 * C)


def arguments(name, case):
    """Of a call of the pipeline, without the number of steps."""
    given = dict(case.call)
    if name == "dit":  # draws its noise itself
        return given | {"seed": 3}
    x = noise_of(case)
    if case.prompts and case.call is not LABELS:
        side = 16 if len(case.shape) == 3 else 64
        given |= {"height": side, "width": side}
    if name == "pixart":
        given |= {"use_resolution_binning": False}
    if name == "wan":
        given |= {"num_frames": 9}
    if case.guidance is not None:
        given["guidance_scale"] = case.guidance
    return given | {"latents": packed(x) if name in ("flux", "schnell") else x}


def expected(name, case, flow, folder, jumps):
    condition = {"label": torch.tensor([1, 2])} if "class_labels" in case.call else Texts(folder).encode(PROMPTS)
    if case.guidance is not None:
        condition["guidance"] = torch.full((2,), case.guidance)
    x = fm.sample(flow, noise_of(case), jumps, condition=condition)
    if name == "dit":
        return (Latents(folder).decode(x) / 2 + 0.5).clamp(0, 1)
    return packed(x) if name in ("flux", "schnell") else x


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The student of each pipeline, the folder it is from, and what plain diffusers makes of its export."""
    folder, calls, flows = tmp_path_factory.mktemp("exported"), [], {}
    for name, case in CASES.items():
        flows[name] = student(case, folder / f"{name}_base")
        export.to_diffusers(flows[name], folder / name)
        calls += [(folder / name, arguments(name, case) | {"num_inference_steps": jumps}) for jumps in JUMPS]
    results = sampled(calls, folder)
    return folder, flows, {name: results[3 * i : 3 * i + 3] for i, name in enumerate(CASES)}


@pytest.mark.parametrize("name", CASES)
def test_the_same_noise_gives_the_same_samples(made, name):
    folder, flows, results = made
    for jumps, got in zip(JUMPS, results[name], strict=True):
        want = expected(name, CASES[name], flows[name], folder / f"{name}_base", jumps)
        got = torch.as_tensor(got) if not isinstance(got, (str, torch.Tensor)) else got
        assert_same(got / want.abs().max() if isinstance(got, torch.Tensor) else got, want / want.abs().max())
