"""LoRA: what is trained, what is shared, what is saved, and where it loads."""

import copy
import json
import re
import shutil
import sys
from pathlib import Path

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import flowmaps as fm
from flowmaps import students
from flowmaps.integrations.diffusers import DiffusersNetwork
from flowmaps.integrations.peft import (
    base_of,
    load_adapter,
    lora,
    merged,
    save_adapter,
    set_weight,
)
from flowmaps.integrations.peft.adapted import core_of, layers_of
from flowmaps.pretrained import Affine
from flowmaps.serialise import build, describe
from flowmaps.velocity import Auxiliary, averaged, fixed
from tests.integrations import tiny

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 8, "lr": 1e-2}
GAUSSIAN = fm.exact.Gaussian(torch.zeros(2), torch.ones(2))
X, S, T = (
    torch.randn(5, 2, generator=torch.Generator().manual_seed(1)),
    torch.linspace(0.2, 1, 5),
    torch.linspace(0, 1, 5),
)


class Own(nn.Module):
    """A network of a user's, of one time."""

    def __init__(self, size=2, names=("fc1", "fc2")):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 8))
        self.layers = nn.ModuleList(
            nn.ModuleDict({names[0]: nn.Linear(8, 8), names[1]: nn.Linear(8, 8)}) for _ in range(2)
        )
        self.names = names
        self.input, self.output = nn.Linear(size, 8), nn.Linear(8, size)

    def forward(self, x, time, label=None):
        h, emb = self.input(x), self.embed(time[:, None].to(x.dtype))
        for layer in self.layers:
            h = h + layer[self.names[1]](torch.tanh(layer[self.names[0]](h + emb)))
        return self.output(h)


def randomised(network, seed=0, scale=0.4):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(scale * torch.randn(weight.shape, generator=generator, dtype=weight.dtype))
    return network


def mlp(seed=0):
    """A teacher around a network of ours."""
    return fm.FlowMap(randomised(fm.networks.MLP(2, width=8, depth=2, embedding=8), seed))


def user(seed=0):
    return fm.teacher(randomised(Own(), seed))


def student_of(teacher):
    own = isinstance(teacher, fm.Pretrained) and isinstance(teacher.network, Own)
    places = students.TimeLayers("embed") if own else None
    torch.manual_seed(0)
    return fm.students.student(teacher, places=places)


TEACHERS = {"ours": mlp, "a user's": user}
ALL = pytest.mark.parametrize("teacher", TEACHERS.values(), ids=TEACHERS)


def moved(flow, seed=2, scale=0.1):
    """Every trained weight moved, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in flow.parameters():
            if weight.requires_grad:
                weight += scale * torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    return flow


def jump(flow):
    return flow.average_velocity(X.to(flow.like), S.to(flow.like), T.to(flow.like)).detach()


def speed(teacher, like=X):
    return teacher.velocity(X.to(like), S[:, None].to(like)).detach()


def storages(*modules):
    return {weight.untyped_storage().data_ptr() for module in modules for weight in module.parameters()}


def trained(flow):
    return [name for name, weight in flow.network.named_parameters() if weight.requires_grad]


# --- what is trained, and from where it starts ------------------------------------------------------------------------


@ALL
def test_at_first_nothing_changes_bit_for_bit(teacher):
    before = student_of(teacher())
    flow = lora(before, 2)
    assert torch.equal(jump(flow), jump(before)) and not torch.equal(jump(moved(flow)), jump(before))


@ALL
def test_the_adapter_and_the_new_embeddings_are_trained_and_nothing_else(teacher):
    before = student_of(teacher())
    flow = lora(before, 2, alpha=3)
    names = trained(flow)
    assert all(".lora_" in name or name.startswith("network.new.") for name in names)
    assert {name for name in names if name.startswith("network.new.")} == {
        f"network.new.{name}" for name, _ in before.network.new.named_parameters()
    }
    layers = list(layers_of(flow.network))
    assert len(layers) == 4 and {layer.scaling["default"] for layer in layers} == {1.5}
    assert all(weight.requires_grad for weight in before.parameters())  # the one that was given stays as it is
    assert all(torch.equal(a, b) for a, b in zip(student_of(teacher()).parameters(), before.parameters(), strict=True))
    assert storages(core_of(before.network)) < storages(flow)  # and shares its memory


@ALL
def test_the_base_is_the_teacher_exactly_also_after_training_and_there_once(teacher):
    given = teacher()
    flow = lora(student_of(given), 2)
    base, expected = base_of(flow), speed(given)
    method = fm.Method(
        fm.Term(fm.consistency.lagrangian, averaged(0.9)), fm.Term(fm.consistency.diffusion, fixed(base))
    )
    for state in fm.train(flow, method, GAUSSIAN, steps=3, **QUIET):  # noqa: B007
        assert torch.equal(speed(base), expected)
    assert not torch.equal(speed(flow), expected)
    weights, new = len(list(core_of(student_of(given).network).parameters())), len(trained(flow))
    assert len(storages(flow, state.ema, method, base)) == weights + 3 * new
    assert not any(weight.requires_grad for weight in base.parameters())


def test_a_second_network_beside_the_flow_has_an_adapter_of_its_own_on_the_same_base():
    flow = lora(student_of(mlp()), 2)
    beside = Auxiliary()
    beside.make(flow)
    fresh = storages(beside) - storages(flow)
    assert len(fresh) == len(trained(flow))
    assert [weight.requires_grad for weight in beside.parameters()] == [w.requires_grad for w in flow.parameters()]


def test_a_flow_map_that_is_no_student_is_adapted_too():
    given = mlp()
    flow = lora(given, 2)
    assert all(".lora_" in name for name in trained(flow)) and torch.equal(jump(flow), jump(given))
    assert torch.equal(jump(base_of(moved(flow))), jump(given))


# --- which layers -----------------------------------------------------------------------------------------------------

NETWORKS = {
    "DiT": (lambda: fm.networks.DiT((1, 4, 4), width=8, depth=1, heads=2), ["qkv", "attention.out", "inner", "outer"]),
    "UNet": (lambda: fm.networks.UNet((1, 8, 8), width=8, multipliers=(1,), blocks=1), ["qkv", "out"]),
    "ConcatMLP": (lambda: fm.networks.ConcatMLP(2, width=8, depth=2), ["hidden.0", "hidden.1"]),
}  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_attention_and_feed_forward_layers_of_ours_are_found(network):
    make, ends = NETWORKS[network]
    layers = lora(fm.FlowMap(make()), 1).network.layers
    assert len(layers) == len(ends) and all(name.endswith(end) for name, end in zip(layers, ends, strict=True))


def test_layers_are_chosen_by_name_by_expression_and_convolutions_where_asked():
    given = student_of(mlp())
    assert lora(given, 1, targets=["blocks.0.inner"]).network.layers == ["blocks.0.inner"]
    assert lora(given, 1, targets=r"blocks\.\d\.outer").network.layers == ["blocks.0.outer", "blocks.1.outer"]
    unet = fm.FlowMap(randomised(fm.networks.UNet((1, 8, 8), width=8, multipliers=(1,), blocks=1)))
    flow = lora(unet, 2, targets=["first", "second", "skip"])
    assert len(flow.network.layers) == 12 and torch.equal(
        flow(torch.ones(1, 1, 8, 8), 1.0, 0.0), unet(torch.ones(1, 1, 8, 8), 1.0, 0.0)
    )


def test_layers_that_cannot_be_are_refused_and_those_that_can_be_named():
    given = student_of(mlp())
    with pytest.raises(
        ValueError, match=r"MLP has no layer 'to_q': give targets= from .*input, blocks\.\*\.inner, .*output"
    ):
        lora(given, 1, targets=["inner", "to_q"])
    with pytest.raises(ValueError, match="MLP has no layer 'to_q.*': give targets= from "):
        lora(given, 1, targets="to_q.*")
    with pytest.raises(ValueError, match="modulation is a Modulation, which LoRA cannot adapt"):
        lora(given, 1, targets=["modulation"])
    with pytest.raises(ValueError, match="targets names no layer: give targets= from "):
        lora(given, 1, targets=[])
    odd = fm.students.student(fm.teacher(randomised(Own(names=("one", "two")))), places=students.TimeLayers("embed"))
    with pytest.raises(
        ValueError, match=r"of Own are attention and feed-forward ones is not known: give targets= .*layers\.\*\.one"
    ):
        lora(odd, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank of LoRA must be a whole number of at least 1, got 0"),
        ({"rank": 2.5}, "rank of LoRA must be a whole number"),
        ({"rank": 2, "alpha": 0}, "alpha must be positive"),
        ({"rank": 2, "dropout": 1.0}, r"dropout of LoRA must lie in \[0, 1\)"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        lora(student_of(mlp()), **options)


def test_an_adapter_on_an_adapter_and_none_at_all_are_refused():
    flow = student_of(mlp())
    with pytest.raises(ValueError, match="has LoRA layers already"):
        lora(lora(flow, 1), 1)
    for verb in (base_of, merged, lambda f: set_weight(f, 0.5), lambda f: save_adapter(f, "nowhere")):
        with pytest.raises(ValueError, match="this flow map has no adapter, its network is a Student"):
            verb(flow)


def test_without_peft_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    for name in [name for name in sys.modules if name.startswith("flowmaps.integrations.peft")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=r"needs peft: pip install .\.\[diffusers\]."):
        __import__("flowmaps.integrations.peft")


# --- derivatives, copies, precision -----------------------------------------------------------------------------------


@ALL
def test_derivatives_see_the_adapter(teacher):
    """Ours, torch's, and with other weights in the place of its own, against differences."""
    flow = moved(lora(student_of(teacher()).double(), 2))
    x, s, t = X.double(), S.double() - 0.1, T.double() * 0.9

    def of(s):
        return flow.average_velocity(x, s, t)

    value, slope = fm.derivative.jvp(of, (s,), (torch.ones_like(s),))
    theirs = torch.func.jvp(of, (s,), (torch.ones_like(s),))
    torch.testing.assert_close((value, slope), theirs)
    h = 1e-6
    torch.testing.assert_close(slope, (of(s + h) - of(s - h)) / (2 * h), rtol=1e-6, atol=1e-7)
    frozen = fm.velocity.frozen(flow, None).average_velocity(x, s, t)
    assert torch.equal(frozen, value) and not frozen.requires_grad


def test_a_copy_is_apart_and_the_same():
    flow = moved(lora(student_of(mlp()), 2))
    other = copy.deepcopy(flow)
    assert torch.equal(jump(other), jump(flow)) and not storages(other) & storages(flow)
    set_weight(other, 0.0)
    assert flow.network.weight == 1 and not torch.equal(jump(other), jump(flow))


def test_the_adapter_of_a_base_in_half_precision_is_trained_in_full():
    given = student_of(mlp())
    given.network.network.bfloat16()
    flow = lora(given, 2)
    dtypes = {name: weight.dtype for name, weight in flow.network.named_parameters()}
    assert {dtypes[name] for name in trained(flow)} == {torch.float32}
    assert {dtypes[name] for name in flow.network.frozen} == {torch.bfloat16}
    assert flow.like.dtype == torch.float32


def test_dropout_acts_in_training_alone():
    flow = moved(lora(student_of(mlp()), 2, dropout=0.5))
    assert not torch.equal(jump(flow.train()), jump(flow))
    assert torch.equal(jump(flow.eval()), jump(flow))
    *_, state = fm.train(flow, fm.methods.meanflow(), GAUSSIAN, steps=2, **QUIET)
    assert torch.equal(jump(state.ema), jump(state.ema))


# --- its weight, merging ----------------------------------------------------------------------------------------------


@ALL
def test_at_weight_0_it_is_the_base_at_1_as_it_was(teacher):
    start = student_of(teacher())
    flow = moved(lora(start, 2))
    full = jump(flow)
    set_weight(flow, 0.0)
    assert torch.equal(jump(flow), jump(start))
    set_weight(flow, 0.5)
    assert not torch.equal(jump(flow), full) and not torch.equal(jump(flow), jump(start))
    set_weight(flow, 1.0)
    assert torch.equal(jump(flow), full)
    with pytest.raises(ValueError, match="must be finite, got nan"):
        set_weight(flow, float("nan"))


def test_what_the_layers_add_is_linear_in_the_weight():
    """A network that is linear in the adapted layer."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x, s, t):
            return self.layer(torch.cat([x, s[:, None], t[:, None]], 1))

    flow = moved(lora(fm.FlowMap(Linear()).double(), 2, alpha=5.0, targets=["layer"]), scale=1.0)
    values = []
    for weight in (0.0, 0.25, 1.0):
        set_weight(flow, weight)
        values.append(jump(flow))
    torch.testing.assert_close(values[1], 0.75 * values[0] + 0.25 * values[2])
    layer = flow.network.network.layer
    delta = 5.0 / 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    torch.testing.assert_close(jump(merged(flow)), values[2])
    torch.testing.assert_close(merged(flow).network.layer.weight, layer.base_layer.weight + delta)


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_merged_it_is_an_ordinary_student_with_weights_of_its_own(weight):
    flow = moved(lora(student_of(mlp()).double(), 2))
    set_weight(flow, weight)
    before = jump(flow)
    ordinary = merged(flow)
    torch.testing.assert_close(jump(ordinary), before)
    assert torch.equal(jump(flow), before) and not storages(ordinary) & storages(flow)
    assert isinstance(ordinary.network, students.Student) and all(w.requires_grad for w in ordinary.parameters())
    assert ordinary.state_dict().keys() == student_of(mlp()).state_dict().keys()


def test_a_student_that_was_trained_before_it_was_adapted_has_no_weight_but_1():
    flow = lora(moved(student_of(mlp())), 2)
    set_weight(flow, 1.0)
    with pytest.raises(ValueError, match="its weight must be 1"):
        set_weight(flow, 0.5)


# --- run folders ------------------------------------------------------------------------------------------------------


def run(flow, folder, **options):
    *_, state = fm.train(flow, fm.methods.meanflow(), GAUSSIAN, out=folder, **{"steps": 3} | QUIET | options)
    return state


def test_a_run_around_a_network_of_ours_is_loaded_and_goes_on(tmp_path):
    """Its base comes from no folder, so the checkpoint has it."""
    flow = lora(student_of(mlp()), 2, alpha=1.5, targets=["inner"])
    assert describe(build(describe(flow.network))) == describe(flow.network)
    state = run(flow, tmp_path / "run", steps=4)
    loaded = fm.load(tmp_path / "run")
    assert torch.equal(jump(loaded), jump(state.ema)) and loaded.network.layers == ["blocks.0.inner", "blocks.1.inner"]
    assert torch.equal(speed(base_of(loaded)), speed(mlp()))
    whole = run(lora(student_of(mlp()), 2), tmp_path / "whole", steps=4)
    for state in fm.train(
        lora(student_of(mlp()), 2), fm.methods.meanflow(), GAUSSIAN, out=tmp_path / "two", steps=4, **QUIET
    ):
        if state.step == 2:
            break
    assert torch.equal(
        jump(run(lora(student_of(mlp()), 2), tmp_path / "two", steps=4, resume=True).ema), jump(whole.ema)
    )


def test_a_run_around_a_users_network_has_what_was_trained_and_wants_the_base(tmp_path):
    state = run(lora(student_of(user()), 2), tmp_path / "run")
    [checkpoint] = (tmp_path / "run" / "checkpoints").glob("step_*")
    saved = load_file(checkpoint / "ema.safetensors")
    assert not [name for name in saved if "base_layer" in name or "embed" in name]
    with pytest.raises(ValueError, match="pass network="):
        fm.load(tmp_path / "run")
    again = fm.load(tmp_path / "run", lora(student_of(user()), 2))
    assert torch.equal(jump(again), jump(state.ema))
    with pytest.raises(ValueError, match="trained on other weights than these: the base has changed"):
        fm.load(tmp_path / "run", lora(student_of(user(seed=1)), 2))


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """The folder of a pipeline without conditions."""
    return tiny.ddpm_unet(tmp_path_factory.mktemp("pipeline") / "ddpm")


@pytest.fixture(scope="module")
def text_unet(tmp_path_factory):
    """The folder of Stable Diffusion."""
    return tiny.stable_diffusion(tmp_path_factory.mktemp("pipeline") / "text")


DDPM = fm.path.Discrete(tuple(torch.linspace(0.999, 0.01, 1000).tolist()))


def of_folder(folder):
    """A teacher that comes from the folder of a pipeline."""
    config = json.loads((folder / "unet" / "config.json").read_text())
    network = DiffusersNetwork(config["_class_name"], config, str(folder), "unet")
    return fm.teacher(network, fm.path.noise, DDPM, known=(1 / 1000, 1), time=Affine(1000, -1))


IMAGES = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(3)).clamp(-1, 1)


def drawn(flow):
    return flow.average_velocity(IMAGES[:2], torch.tensor([0.9, 0.5]), torch.tensor([0.0, 0.4])).detach()


def distilled(folder, out):
    """A short run, and the state at its end."""
    flow = lora(student_of(of_folder(folder)), 2)
    *_, state = fm.train(flow, fm.methods.ayf_emd(base_of(flow)), (IMAGES), out=out, steps=2, **QUIET)
    return state


@pytest.fixture(scope="module")
def finished(unet, tmp_path_factory):
    """The run folder of a distillation, and its average."""
    out = tmp_path_factory.mktemp("runs") / "run"
    return out, distilled(unet, out).ema


def test_a_run_on_a_pipeline_has_the_adapter_alone_and_the_base_comes_from_its_folder(finished):
    out, ema = finished
    [checkpoint] = (out / "checkpoints").glob("step_*")
    for part in ("flow", "ema"):
        names = load_file(checkpoint / f"{part}.safetensors")
        assert not [name for name in names if "model" in name and "lora_" not in name]
    loaded = fm.load(out)
    torch.testing.assert_close(drawn(loaded), drawn(ema))
    assert loaded.network.left_out == loaded.network.frozen


def test_a_base_that_is_gone_or_another_one_is_said(finished, unet, tmp_path):
    away = unet.rename(unet.with_name("away"))
    try:
        with pytest.raises(FileNotFoundError, match="ddpm is neither a folder here nor"):
            fm.load(finished[0])
        shutil.copytree(away, unet)
        [file] = (unet / "unet").glob("*.safetensors")
        save_file({name: value * 1.01 for name, value in load_file(file).items()}, file)
        with pytest.raises(ValueError, match="trained on other weights than these: the base has changed"):
            fm.load(finished[0])
    finally:
        shutil.rmtree(unet, ignore_errors=True)
        away.rename(unet)
    assert fm.load(finished[0]) is not None


def test_a_base_that_was_changed_after_it_was_read_is_in_the_checkpoint(unet, tmp_path):
    start = moved(student_of(of_folder(unet)))
    flow = lora(start, 1)
    assert not flow.network.left_out
    *_, state = fm.train(flow, fm.methods.flow_matching(), (IMAGES), out=tmp_path / "run", steps=1, **QUIET)
    torch.testing.assert_close(drawn(fm.load(tmp_path / "run")), drawn(state.ema))


def test_a_base_in_another_dtype_than_its_folder_comes_back_in_it(unet, tmp_path):
    flow = lora(student_of(of_folder(unet)), 1).double()
    assert flow.network.left_out
    run_options = QUIET | {"steps": 1, "out": tmp_path / "run"}
    *_, state = fm.train(flow, fm.methods.flow_matching(), IMAGES.double(), **run_options)
    loaded = fm.load(tmp_path / "run")
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float64}
    x, s = IMAGES[:2].double(), torch.tensor([0.9, 0.5], dtype=torch.float64)
    torch.testing.assert_close(loaded.average_velocity(x, s, 0 * s), state.ema.average_velocity(x, s, 0 * s))


# --- adapters in folders ----------------------------------------------------------------------------------------------


@ALL
def test_an_adapter_is_saved_alone_and_loads_onto_another_fine_tune(teacher, tmp_path):
    flow = moved(lora(student_of(teacher()), 2, alpha=3.0))
    save_adapter(flow, tmp_path)
    trained_size = sum(weight.numel() * weight.element_size() for weight in flow.parameters() if weight.requires_grad)
    assert sum(file.stat().st_size for file in tmp_path.glob("*.safetensors")) < trained_size + 8000
    same = load_adapter(student_of(teacher()), tmp_path)
    assert torch.equal(jump(same), jump(flow))
    other = student_of(teacher(seed=5))
    before = jump(other)
    adapted = load_adapter(other, tmp_path, weight=0.0)
    assert torch.equal(jump(adapted), before) and torch.equal(jump(other), before)
    set_weight(adapted, 1.0)
    for name in trained(flow):
        assert torch.equal(adapted.network.get_parameter(name), flow.network.get_parameter(name))
    half = load_adapter(student_of(teacher()), tmp_path, weight=0.5)
    set_weight(flow, 0.5)
    assert torch.equal(jump(half), jump(flow))


def test_an_adapter_goes_on_from_a_file_and_an_average_is_saved_like_a_flow(tmp_path):
    flow = lora(student_of(mlp()), 2)
    state = run(flow, tmp_path / "run")
    save_adapter(state.ema, tmp_path / "adapter")
    again = load_adapter(lora(student_of(mlp()), 2), tmp_path / "adapter")
    assert torch.equal(jump(again), jump(state.ema)) and trained(again) == trained(flow)


def test_an_adapter_that_does_not_fit_is_refused(tmp_path):
    save_adapter(lora(student_of(mlp()), 2), tmp_path)
    with pytest.raises(FileNotFoundError, match="is no adapter of flowmaps: there is no such folder"):
        load_adapter(student_of(mlp()), tmp_path / "nowhere")
    deep = fm.students.student(fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8)))
    with pytest.raises(ValueError, match="does not fit this MLP: it has no layer blocks.1.inner"):
        load_adapter(deep, tmp_path)
    wide = fm.students.student(fm.FlowMap(fm.networks.MLP(2, width=16, depth=2, embedding=8)))
    with pytest.raises(ValueError, match=r"lora_A.weight is \(2, 8\) in the file and \(2, 16\) in the network"):
        load_adapter(wide, tmp_path)
    told = fm.students.student(mlp(), told=("guidance",))
    with pytest.raises(
        ValueError, match="new.inner.weight is .* with the same time conditioning and the same conditions"
    ):
        load_adapter(told, tmp_path)
    alone = fm.students.student(mlp(), students.source_only)
    with pytest.raises(ValueError, match="the network has no new.inner.bias"):
        load_adapter(alone, tmp_path)
    settings = json.loads((tmp_path / "flow_map_adapter.json").read_text())
    (tmp_path / "flow_map_adapter.json").write_text(json.dumps({**settings, "format": 2}))
    with pytest.raises(ValueError, match="has format 2, but this version of flowmaps reads at most 1"):
        load_adapter(student_of(mlp()), tmp_path)
    (tmp_path / "flow_map_adapter.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read: .* restore it"):
        load_adapter(student_of(mlp()), tmp_path)


def test_a_stock_pipeline_reads_it(text_unet, tmp_path):
    """The LoRA part, by `load_lora_weights`, alpha included, at any weight."""
    flow = moved(lora(student_of(of_folder(text_unet)), 2, alpha=5.0))
    with torch.no_grad():
        for name in flow.network.gates:  # which plain diffusers does not know
            flow.network.network.get_parameter(name).zero_()
    save_adapter(flow, tmp_path)
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(text_unet)
    question = {"encoder_hidden_states": torch.ones(1, 4, tiny.WIDTH), "return_dict": False}
    x, time = torch.ones(1, 4, 8, 8), torch.tensor([500.0])
    before = pipeline.unet(x, time, **question)[0]
    pipeline.load_lora_weights(tmp_path)
    mine = core_of(flow.network)
    torch.testing.assert_close(pipeline.unet(x, time, **question)[0], mine(x, time, **question)[0])
    assert not torch.allclose(pipeline.unet(x, time, **question)[0], before, atol=1e-3)
    pipeline.set_adapters(pipeline.get_active_adapters(), 0.3)
    set_weight(flow, 0.3)
    torch.testing.assert_close(pipeline.unet(x, time, **question)[0], mine(x, time, **question)[0])


def test_a_student_of_one_time_is_whole_in_a_stock_pipeline(text_unet):
    """It has nothing beside the LoRA."""
    flow = lora(students.student(of_folder(text_unet), students.source_only, tame=False), 2)
    assert not flow.network.new and flow.only_target == 0.0
    assert all(".lora_" in name for name in trained(flow))


def test_the_page_runs(unet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "lora.md").read_text()
    for folder in ("folder/of/a/pipeline", "folder/of/another/pipeline"):
        text = text.replace(folder, str(unet))
    names = {"images": IMAGES}
    for block in re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S):
        exec(
            block.replace("2000, batch_size=16", "2, batch_size=4, progress_bar=False, trackers=(), sample_every=0"),
            names,
        )
    torch.testing.assert_close(drawn(names["other"]), drawn(names["state"].ema))
    assert {file.name for file in Path("adapter").iterdir()} == set(re.findall(r"^\| `(.*?)` \|", text, flags=re.M))
