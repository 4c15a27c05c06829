"""Pipeline folders of our networks and of students of pipelines, sampled by diffusers in a process without flowmaps."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import flowmaps as fm
from flowmaps import export, students
from flowmaps.integrations import peft
from flowmaps.integrations.diffusers import Latents, Texts, teacher

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "integrations")]
import tiny  # noqa: E402
from plain import assert_same, sampled  # noqa: E402

pytestmark = pytest.mark.slow

JUMPS = (1, 2, 4)
IMAGE = (1, 8, 8)
PROMPTS = ["a cat", "two dogs"]


def random(module):
    with torch.no_grad():
        for weight in () if module is None else module.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return module


def points():
    return fm.FlowMap(random(fm.networks.MLP(2, 16, 2, embedding=8)), path=fm.path.VarianceExploding(5.0))


def table():
    """Of standardised data."""
    flow = points()
    flow.units = fm.Units((3.0, -1.0), (2.0, 0.5))
    return flow


def classes():
    network = fm.networks.DiT(IMAGE, 4, 16, 2, 2, classes=3, times=fm.networks.decoupled)
    return fm.FlowMap(random(network), fm.Bounded(fm.Endpoint()), fm.path.trigonometric)


def unet():
    return fm.FlowMap(random(fm.networks.UNet(IMAGE, 8, (1, 2), 1)), fm.Rotation(0.5))


def consistency():
    basis = fm.networks.pca_basis(torch.randn(99, 64))
    network = fm.networks.InBasis(fm.networks.MLP(IMAGE, 16, 2, embedding=8), basis)
    return fm.FlowMap(random(network), fm.Bounded(fm.GaussianSkip.fit(torch.randn(99, *IMAGE))), only_target=0.0)


def own_student():
    """Of a network of ours that was told one time."""
    network = random(fm.networks.MLP(IMAGE, 16, 2, embedding=8, classes=3, times=fm.networks.source_only))
    flow = fm.student(fm.FlowMap(network), told=("guidance",))
    random(flow.network.new)
    return flow


OURS = {make.__name__: make for make in (points, classes, unet, consistency, own_student, table)}


def label_of(flow):
    return torch.tensor([0, 1, 2]) if any(hasattr(part, "label") and part.label for part in flow.modules()) else None


@dataclass(frozen=True)
class Case:
    """A tiny pipeline, how its student is told times, and how the pipeline of its export is called."""

    make: Any
    shape: tuple = (4, 8, 8)
    options: dict = field(default_factory=dict)
    call: dict = field(default_factory=lambda: {"prompt": PROMPTS, "output_type": "latent", "height": 16, "width": 16})
    condition: dict = field(default_factory=dict)


def labelled(folder):
    return tiny.ddpm_unet(folder, classes=3)


def schnell(folder):
    return tiny.flux(folder, guidance=False)


VIDEO = {"prompt": PROMPTS, "output_type": "latent", "height": 64, "width": 64, "num_frames": 9}
PIXART = {"prompt": PROMPTS, "output_type": "latent", "height": 16, "width": 16, "use_resolution_binning": False}
LABELS = {"class_labels": [1, 2], "output_type": "latent"}
INTERVAL = {"guidance_scale": 2.5, "guidance_interval": (0.1, 0.7)}
CASES = {
    "ddpm_unet": Case(labelled, IMAGE, {"told": ("guidance",)}, LABELS | {"guidance_scale": 3.0}, {"guidance": 3.0}),
    "source_only": Case(labelled, IMAGE, {"times": students.source_only}, LABELS),
    "stable_diffusion": Case(
        tiny.stable_diffusion,
        options={"told": ("guidance", "guidance_from", "guidance_to")},
        call=Case(None).call | INTERVAL,
        condition={"guidance": 2.5, "guidance_from": 0.1, "guidance_to": 0.7},
    ),
    "lora": Case(tiny.stable_diffusion),
    "lcm": Case(tiny.stable_diffusion, options={"times": students.source_only}),
    "sdxl": Case(tiny.sdxl, options={"times": students.decoupled}),
    "dit": Case(tiny.dit, call={"class_labels": [1, 2], "output_type": "pt"}),
    "sd3": Case(tiny.sd3, options={"tame": False}),
    "flux": Case(
        tiny.flux, options={"told": ("guidance",)}, call=Case(None).call | {"guidance_scale": 2.0},
        condition={"guidance": 2.0},
    ),
    "schnell": Case(schnell, options={"times": students.decoupled}),
    "pixart": Case(tiny.pixart, options={"times": students.decoupled}, call=PIXART),
    "wan": Case(tiny.wan, (4, 3, 8, 8), call=VIDEO),
}  # fmt: skip
TO_DATA = "source_only", "consistency", "lcm"


SEED = 5


def student(name, case, folder):
    """Of a tiny pipeline, all that is new in it moved away from zero."""
    flow = fm.student(teacher(case.make(folder)), **case.options)
    random(flow.network.new)
    random(flow.network.tame)
    if name == "lora":
        flow = peft.lora(flow, 2)
        with torch.no_grad():
            for weight in flow.parameters():
                weight.add_(0.1 * torch.randn_like(weight) * weight.requires_grad)
    return flow.eval()


def noise_of(shape, rows):
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(3))


def packed(name, x):
    """As FluxPipeline has its latents."""
    if name not in ("flux", "schnell"):
        return x
    B, C, H, W = x.shape
    return x.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(B, H * W // 4, 4 * C)


def start(name, case):
    """What a pipeline is called with for the noise; DiTPipeline draws it itself."""
    return {"seed": 3} if name == "dit" else {"latents": packed(name, noise_of(case.shape, 2))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The flow maps, the folder of their exports, and what plain diffusers makes of each at 1, 2 and 4 jumps; what it
    makes of a few other calls.
    """
    torch.manual_seed(0)
    folder, calls, flows = tmp_path_factory.mktemp("exported"), [], {}
    for name, make in OURS.items():
        flows[name] = make().eval()
        call, label = {"latents": noise_of(shape_of(name), 3), "output_type": "latent"}, label_of(flows[name])
        call |= {} if label is None else {"class_labels": label}
        call |= {"seed": SEED} if name in TO_DATA else {}
        calls += [(folder / name, call | {"num_inference_steps": jumps}) for jumps in JUMPS]
    for name, case in CASES.items():
        flows[name] = student(name, case, folder / f"{name}_base")
        call = case.call | start(name, case) | ({"seed": SEED} if name in TO_DATA else {})
        calls += [(folder / name, call | {"num_inference_steps": jumps}) for jumps in JUMPS]
    for name, flow in flows.items():
        export.to_diffusers(flow, folder / name)
    other = {"latents": noise_of(IMAGE, 3), "class_labels": torch.tensor([0, 1, 2])}
    others = {
        "times": (folder / "classes", other | {"sigmas": [1.0, 0.3], "output_type": "latent"}),
        "pixels": (folder / "classes", other | {"output_type": "pt"}),
        "pictures": (folder / "classes", {"class_labels": [2, 1]}),
        "null": (folder / "classes", {"latents": other["latents"][:1], "output_type": "latent"}),
        "told": (folder / "own_student", other | {"guidance_scale": 2.0, "output_type": "latent"}),
        "points": (folder / "points", {}),
        "images": (folder / "stable_diffusion", CASES["stable_diffusion"].call | {"output_type": "pt", "seed": 3}),
    }
    results = sampled([*calls, *others.values()], folder)
    at = {name: dict(zip(JUMPS, results[3 * i : 3 * i + 3], strict=True)) for i, name in enumerate(flows)}
    return folder, flows, at, dict(zip(others, results[3 * len(flows) :], strict=True))


def shape_of(name):
    return (2,) if name in ("points", "table") else IMAGE


def sample(name, flow, noise, jumps, **options):
    """Jumps; of a map to the data alone restarts, whose noise is that of the generator of its pipeline."""
    if name not in TO_DATA:
        return fm.sample(flow, noise, jumps, **options)
    rng = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        flow = flow if options.get("condition") is None else flow.given(**options["condition"])
        for k in range(jumps, 0, -1):
            x0, t = flow(noise, k / jumps, 0.0), (k - 1) / jumps
            noise = (1 - t) * x0 + t * torch.randn(noise.shape, generator=rng) if t else x0
    return noise


@pytest.mark.parametrize("name", OURS)
def test_our_networks_make_the_same_of_the_same_noise(made, name):
    flow = made[1][name]
    noise = noise_of(shape_of(name), 3) * flow.path.sigma(torch.ones(()))
    for jumps in JUMPS:
        assert_same(made[2][name][jumps], sample(name, flow, noise, jumps, condition=label_of(flow)))


@pytest.mark.parametrize("name", CASES)
def test_students_of_pipelines_make_the_same_of_the_same_noise(made, name):
    folder, flow, case = made[0] / f"{name}_base", made[1][name], CASES[name]
    condition = {"label": torch.tensor([1, 2])} if "class_labels" in case.call else Texts(folder).encode(PROMPTS)
    condition |= {key: torch.full((2,), value) for key, value in case.condition.items()}
    for jumps in JUMPS:
        want = sample(name, flow, noise_of(case.shape, 2), jumps, condition=condition)
        if name == "dit":
            want = (Latents(folder).decode(want) / 2 + 0.5).clamp(0, 1)
        got = made[2][name][jumps]
        assert not isinstance(got, str), got
        size = want.abs().max()
        assert_same(torch.as_tensor(got) / size, packed(name, want) / size)
        assert want.std() > 1e-3 * size


def test_times_images_labels_and_guidance(made):
    _, flows, at, others = made
    noise, label = noise_of(IMAGE, 3), torch.tensor([0, 1, 2])
    assert_same(others["times"], fm.sample(flows["classes"], noise, times=[1.0, 0.3, 0.0], condition=label))
    assert_same(others["pixels"], (at["classes"][1] / 2 + 0.5).clamp(0, 1))
    assert [picture.size for picture in others["pictures"]] == [(8, 8)] * 2
    assert_same(others["null"], fm.sample(flows["classes"], noise[:1]))
    told = {"label": label, "guidance": torch.full((3,), 2.0)}
    assert_same(others["told"], fm.sample(flows["own_student"], noise, condition=told))
    assert (others["told"] - at["own_student"][1]).abs().max() > 1e-3
    assert 'these samples are not images: pass output_type="latent"' in others["points"]
    assert others["images"].shape == (2, 3, 16, 16) and others["images"].std() > 0


def test_lora_is_also_there_by_itself(made, tmp_path):
    folder, flows, *_ = made
    alone = export.adapter(flows["lora"], tmp_path / "alone")
    names = {"pytorch_lora_weights.safetensors", "flow_map.safetensors", "flow_map_adapter.json"}
    assert {path.name for path in (folder / "lora" / "adapter").iterdir()} == names
    assert {path.name for path in alone.iterdir()} == names | {"README.md", "flow_map.json"}
    base = fm.student(teacher(folder / "lora_base"), **CASES["lora"].options)
    again = peft.load_adapter(base, alone).eval()
    x, text = noise_of((4, 8, 8), 2), Texts(folder / "lora_base").encode(PROMPTS)
    torch.testing.assert_close(fm.sample(again, x, condition=text), fm.sample(flows["lora"], x, condition=text))
    with pytest.raises(ValueError, match="has no adapter"):
        export.adapter(flows["sd3"], tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]


class OfSource(torch.nn.Module):
    """A network of diffusers at the source time, which is no student."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, s, t, **condition):
        return self.network(x, s, **condition)


def test_what_cannot_be_put_into_a_pipeline_is_said(made, tmp_path):
    folder, flows, *_ = made
    flow = flows["sd3"]
    network = flow.network.network
    around = type(network).around(network.model)
    bare = flow.around(students.Student(around, flow.network.reading))
    with pytest.raises(ValueError, match="the pipeline of this network is unknown: pass its folder as base="):
        export.to_diffusers(bare, tmp_path / "out")
    with pytest.raises(ValueError, match="as the student of a teacher, fm.student"):
        export.to_diffusers(flow.around(OfSource(network)), tmp_path / "out")
    with pytest.raises(ValueError, match="cannot be put into a DDPMPipeline; known are StableDiffusionPipeline"):
        export.to_diffusers(flow, tmp_path / "out", folder / "ddpm_unet_base")
    assert not list(tmp_path.iterdir())
