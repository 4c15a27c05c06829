"""Pretrained folders of somebody else: nothing in them is run or unpickled, and nothing is fetched unless asked."""

import inspect
import json
import shutil
import socket
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import flowmaps as fm
from flowmaps.cli import main
from flowmaps.integrations import peft
from flowmaps.integrations.diffusers import DiffusersNetwork, Latents, Texts, teacher
from flowmaps.integrations.diffusers.cache import cached
from flowmaps.integrations.diffusers.component_files import TOKENIZER, files_of
from flowmaps.integrations.diffusers.components import CLASSES, class_of
from flowmaps.integrations.diffusers.folder import opened
from flowmaps.integrations.diffusers.schedulers import reading
from tests.integrations import tiny
from tests.security.planted import code, component, edited, pickled
from tests.security.served import hub

QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 4, "steps": 1}
FAST = ["--batch-size", "4", "--steps", "1", "--no-progress-bar", "--trackers", "--sample-every", "0"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    home = tmp_path_factory.mktemp("pipelines")
    return {make.__name__: make(home / make.__name__) for make in (tiny.ddpm_unet, tiny.stable_diffusion)}


@pytest.fixture
def sd(saved, tmp_path):
    """A copy of Stable Diffusion to plant things in."""
    return shutil.copytree(saved["stable_diffusion"], tmp_path / "sd")


@pytest.fixture
def unet(saved, tmp_path):
    return shutil.copytree(saved["ddpm_unet"], tmp_path / "unet")


@pytest.fixture
def trace(tmp_path):
    """A file that is there if something ran."""
    return tmp_path / "ran"


@pytest.fixture(autouse=True)
def unpickled(monkeypatch):
    """Calls of torch.load in a test, which must be none."""
    calls = []
    monkeypatch.setattr(torch, "load", lambda *args, **options: calls.append(args) or {})
    yield calls
    assert not calls


def adapted_run(folder, out):
    """A run with LoRA on the network of a pipeline, whose frozen weights stay in that folder."""
    flow = peft.lora(fm.student(teacher(folder)), 2)
    method = fm.methods.lmd(teacher=peft.base_of(flow))
    for _ in fm.train(flow, method, torch.randn(8, 1, 8, 8), out=out, **QUIET):
        pass
    return out


WAYS = {
    "teacher": lambda folder, out: teacher(folder),
    "latents": lambda folder, out: Latents(folder),
    "texts": lambda folder, out: Texts(folder).encode(["a cat"]),
    "cached": lambda folder, out: cached(folder, None, ["a cat"], out=out),
    "export": lambda folder, out: fm.export.to_diffusers(fm.student(teacher(folder)), out),
}


def distilled(folder, out):
    (out.parent / "prompts.txt").write_text("a cat\n" * 4)
    given = ["--prompts", str(out.parent / "prompts.txt"), "--cache", str(out.parent / "cache"), "--method", "pid"]
    return main(["distill", str(folder), "--out", str(out), *FAST, *given])


# --- code -------------------------------------------------------------------------------------------------------------


USES = {
    "teacher": ("scheduler", "unet"),
    "latents": ("vae", "unet"),
    "texts": ("text_encoder", "tokenizer", "vae", "unet"),
    "cached": ("text_encoder", "tokenizer", "vae", "unet"),
    "export": ("safety_checker", "text_encoder", "tokenizer", "vae", "scheduler", "unet"),
}
"""The components that each way needs; it does not look at the others."""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["safety_checker", "text_encoder", "tokenizer", "vae", "scheduler", "unet"])
def test_a_component_with_code_of_its_own_is_never_run(way, name, sd, trace, tmp_path):
    component(sd, name, "evil", "E", trace)
    if name in USES[way]:
        with pytest.raises(
            ValueError, match=f"the {name} of .* is a E of 'evil', which flowmaps neither loads nor cop"
        ):
            WAYS[way](sd, tmp_path / "out")
    else:
        WAYS[way](sd, tmp_path / "out")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["safety_checker", "text_encoder"])
def test_a_component_with_code_of_its_own_is_not_run_by_a_distillation(name, sd, trace, tmp_path):
    component(sd, name, "evil", "E", trace)
    assert distilled(sd, tmp_path / "out") == (2 if name == "text_encoder" else 0)
    assert not trace.exists()


@pytest.mark.parametrize("way", [*WAYS, "distill"])
def test_a_pipeline_with_code_of_its_own_is_never_run(way, sd, trace, tmp_path):
    """By the names that diffusers looks for: a listed module, and `None.py`, its name of no module."""
    for name in ("evil.py", "None.py", "pipeline.py"):
        (sd / name).write_text(code(trace, "StableDiffusionPipeline"))
    for entry in (["evil", "StableDiffusionPipeline"], "StableDiffusionPipeline"):
        edited(sd / "model_index.json", _class_name=entry)
        try:
            (WAYS | {"distill": distilled})[way](sd, tmp_path / "out")
        except ValueError as error:
            assert "cannot be put into a ['evil', 'StableDiffusionPipeline']" in str(error)
    assert not trace.exists()


def test_a_module_that_can_be_imported_is_no_library(sd, trace, tmp_path, monkeypatch):
    """A name in model_index.json is not imported, wherever a module of that name lies."""
    (tmp_path / "evil_library.py").write_text(code(trace, "E"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("text_encoder", "vae", "scheduler"):
        edited(sd / "model_index.json", **{name: ["evil_library", "E"]})
    for way in ("texts", "latents", "teacher"):
        with pytest.raises(ValueError, match="is a E of 'evil_library', which flowmaps neither loads nor copies"):
            WAYS[way](sd, tmp_path / "out")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("scheduler", ["diffusers", "DiffusionPipeline"]),
        ("vae", ["diffusers", "OnnxRuntimeModel"]),
        ("vae", ["diffusers", "AutoModel"]),
        ("text_encoder", ["transformers", "AutoModel"]),
        ("tokenizer", ["transformers", "AutoTokenizer"]),
        ("tokenizer", ["transformers", "pipeline"]),
        ("text_encoder", ["transformers", "__builtins__"]),
        ("text_encoder", ["onnxruntime.training", "ORTModule"]),
        ("text_encoder", ["torch", "load"]),
        ("scheduler", [["diffusers"], "DDIMScheduler"]),
        ("vae", ["diffusers", "AutoencoderKL", "more"]),
        ("vae", [1, 2]),
    ],
)
def test_classes_that_load_other_things_are_not_known(name, entry, sd, tmp_path):
    edited(sd / "model_index.json", **{name: entry})
    way = {"scheduler": "teacher", "vae": "latents"}.get(name, "texts")
    with pytest.raises(ValueError, match=r"neither loads nor copies|given as \[library, class\]"):
        WAYS[way](sd, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("text_encoder", {"auto_map": {"AutoModel": "evil.E"}}),
        ("text_encoder", {"attn_implementation": "evil/kernel"}),
        ("text_encoder", {"inner": [{"_attn_implementation": "evil/kernel"}]}),
        ("text_encoder", {"quantization_config": {"quant_method": "evil"}}),
        ("text_encoder", {"transformers_weights": "adapter_model.bin"}),
        ("tokenizer", {"auto_map": {"AutoTokenizer": ["evil.E", None]}}),
        ("vae", {"quantization_config": {"quant_method": "modelopt"}}),
        ("unet", {"quantization_config": {"quant_method": "modelopt"}}),
    ],
)
def test_a_config_that_names_code_or_other_files_is_refused(name, change, sd, trace, tmp_path):
    file = "tokenizer_config.json" if name == "tokenizer" else "config.json"
    edited(sd / name / file, **change)
    (sd / name / "evil.py").write_text(code(trace, "E"))
    pickled(sd / name / "adapter_model.bin", trace)
    way = {"unet": "teacher", "vae": "latents"}.get(name, "texts")
    key = "_attn_implementation" if "inner" in change else next(iter(change))
    with pytest.raises(
        OSError, match=f"{name} of .*sd cannot be loaded: {file} has '{key}', by which a loader fetches"
    ):
        WAYS[way](sd, tmp_path / "out")
    assert not trace.exists()


def test_files_beside_the_known_ones_do_not_reach_a_loader(sd, trace, tmp_path, monkeypatch):
    """An adapter in the folder of a text encoder, which transformers would load, with the base that it names."""
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "evil/model", "target_modules": ["q_proj"]}
    (sd / "text_encoder" / "adapter_config.json").write_text(json.dumps(adapter))
    pickled(sd / "text_encoder" / "adapter_model.bin", trace)
    pickled(sd / "text_encoder" / ".metadata", trace)
    (sd / "text_encoder" / "modeling_evil.py").write_text(code(trace, "E"))
    (sd / "text_encoder" / "custom_generate").mkdir()
    (sd / "text_encoder" / "custom_generate" / "generate.py").write_text(code(trace, "E"))
    assert WAYS["texts"](sd, tmp_path / "out")["text"].isfinite().all() and not trace.exists()


@pytest.mark.parametrize("entry", ["../../etc", "/etc", "..", "a/b", "a\\b", ".hidden", "vae\0", "vaе"])
def test_a_name_that_is_no_plain_name_is_no_component(entry, sd):
    edited(sd / "model_index.json", **{entry: ["diffusers", "AutoencoderKL"]})
    with pytest.raises(ValueError, match="has no component"):
        opened(sd).part(entry)
    with pytest.raises(OSError, match="the name of a component has letters, digits and _ alone"):
        DiffusersNetwork("UNet2DConditionModel", {}, str(sd), f"{entry}/x")


def test_a_variant_or_a_dtype_in_a_config_is_no_path_and_no_function(sd):
    network = json.loads((sd / "unet" / "config.json").read_text())
    for variant in ("../../x", "a/b", "*", "."):
        with pytest.raises(OSError, match="the name of a variant has letters, digits"):
            DiffusersNetwork("UNet2DConditionModel", network, str(sd), "unet", variant=variant)
    for dtype in ("load", "hub", "evil", "nn"):
        with pytest.raises(ValueError, match=f"'{dtype}' is not a dtype of torch"):
            DiffusersNetwork("UNet2DConditionModel", network, str(sd), "unet", dtype=dtype)
    with pytest.raises(ValueError, match="cannot call the class 'DiffusionPipeline' of diffusers"):
        DiffusersNetwork("DiffusionPipeline", {}, str(sd), "unet")


def test_a_scheduler_config_names_a_scheduler(tmp_path):
    for name in ("DiffusionPipeline", "StableDiffusionPipeline", "AutoModel", "utils", None, ["DDIMScheduler"]):
        with pytest.raises(ValueError, match="cannot be read: known are|must name a class of diffusers"):
            reading({"_class_name": name})


def test_every_known_class_is_there_and_loads_by_name_alone():
    """Each is a class of its own, not one that looks the class up in the folder."""
    for library, classes in CLASSES.items():
        for name in classes:
            if name != "CLIPFeatureExtractor":  # the old name of CLIPImageProcessor
                found = class_of(library, name)
                assert inspect.isclass(found) and "auto" not in found.__module__.rpartition(".")[2].split("_")


# --- pickles ----------------------------------------------------------------------------------------------------------

WEIGHTS = {
    "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model",
}  # fmt: skip
READERS = {"unet": "teacher", "vae": "latents", "text_encoder": "texts"}


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("suffix", [".bin", ".ckpt", ".pt"])
def test_weights_that_are_pickles_alone_are_not_opened(name, suffix, sd, trace, tmp_path):
    (sd / name / f"{WEIGHTS[name]}.safetensors").unlink()
    stem = "pytorch_model" if name == "text_encoder" else WEIGHTS[name]
    pickled(sd / name / f"{stem}{suffix}", trace)
    said = (
        f"{name} of .*no file named .*safetensors is there, and {stem}{suffix} may hold code, so it is never opened: .*"
    )
    with pytest.raises(FileNotFoundError, match=said + "write it as safetensors by DiffusionPipeline.from_pretrained"):
        WAYS[READERS[name]](sd, tmp_path / "out")
    assert not trace.exists()


@pytest.mark.parametrize("name", WEIGHTS)
def test_an_index_of_weights_names_safetensors_alone(name, sd, trace, tmp_path):
    stem = WEIGHTS[name]
    (sd / name / f"{stem}.safetensors").unlink()
    index = sd / name / f"{stem}.safetensors.index.json"
    pickled(sd / name / "evil.bin", trace)
    for shard in (
        "evil.bin",
        f"{stem}-00001-of-00001.bin",
        "../evil.bin",
        f"x/../{stem}-00001-of-00001.safetensors",
        "",
    ):
        index.write_text(json.dumps({"metadata": {}, "weight_map": {"a": shard}}))
        with pytest.raises(OSError, match="which is no part of these weights in safetensors"):
            WAYS[READERS[name]](sd, tmp_path / "out")
    for content in ({"weight_map": []}, {}, []):
        index.write_text(json.dumps(content))
        with pytest.raises(OSError, match="is no index of weights|is no JSON object"):
            WAYS[READERS[name]](sd, tmp_path / "out")
    assert not trace.exists()


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_in_several_files_still_load(name, sd, tmp_path):
    """What is refused is another kind of file, not several files."""
    whole = opened(sd).part(name).state_dict()
    part = opened(sd).part(name)
    part.save_pretrained(sd / name, max_shard_size="5KB")
    (sd / name / f"{WEIGHTS[name]}.safetensors").unlink(missing_ok=True)
    assert (sd / name / f"{WEIGHTS[name]}.safetensors.index.json").is_file()
    again = opened(sd).part(name).state_dict()
    assert whole.keys() == again.keys() and all(torch.equal(value, again[key]) for key, value in whole.items())


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_pickle_under_the_name_of_safetensors_is_not_opened(name, sd, trace, tmp_path):
    pickled(sd / name / f"{WEIGHTS[name]}.safetensors", trace)
    with pytest.raises(Exception, match="(?i)safetensors|header"):
        WAYS[READERS[name]](sd, tmp_path / "out")
    assert not trace.exists()


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_whose_teacher_is_a_pipeline_of_pickles_does_not_open_them(unet, trace, tmp_path, capsys):
    """From every way into such a run: load, sample, train --teacher, distill, export."""
    run = adapted_run(unet, tmp_path / "run")
    assert fm.load(run)(torch.randn(2, 1, 8, 8), 1.0, 0.0).isfinite().all()
    (unet / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    pickled(unet / "unet" / "diffusion_pytorch_model.bin", trace)
    said = "the pretrained model of this run cannot be loaded: .*may hold code, so it is never opened"
    for call in (
        lambda: fm.load(run),
        lambda: fm.export.to_diffusers(run, tmp_path / "out"),
        lambda: fm.experiments.sample(run, n=2),
    ):
        with pytest.raises(FileNotFoundError, match=said):
            call()
    np.save(tmp_path / "x.npy", np.zeros((8, 1, 8, 8), np.float32))
    given, data = ["--out", str(tmp_path / "student"), *FAST, "--method", "lmd"], str(tmp_path / "x.npy")
    for command in (["train", data, *given, "--teacher", str(run)], ["distill", str(run), *given, "--data", data]):
        assert main(command) == 2
        assert "may hold code, so it is never opened" in " ".join(capsys.readouterr().err.split())
    assert not trace.exists()


def test_a_run_asks_the_hub_nothing(saved, tmp_path, monkeypatch):
    """A name on the hub in a config.json is read from the local cache; a name that a person gives is downloaded."""
    run = adapted_run(saved["ddpm_unet"], tmp_path / "run")
    with hub(monkeypatch, tmp_path / "cache", saved["ddpm_unet"]) as server:
        config = json.loads((run / "config.json").read_text())
        config["flow"]["network"]["arguments"]["network"]["arguments"]["network"]["arguments"]["folder"] = server.NAME
        (run / "config.json").write_text(json.dumps(config))
        with pytest.raises(
            ConnectionError, match="is not in the local cache .*unless you name it: run `hf download some"
        ):
            fm.load(run)
        with pytest.raises(ConnectionError, match="is not in the local cache"):
            fm.export.to_diffusers(run, tmp_path / "out")
        assert not server.asked
        teacher(server.NAME)
        assert server.files and not any("/resolve/" not in path and "README" in path for path in server.asked)
        server.asked.clear()
        x = torch.randn(2, 1, 8, 8)
        assert fm.load(run)(x, 1.0, 0.0).isfinite().all() and not server.asked


def test_the_pipeline_of_a_run_is_not_fetched_to_encode_a_prompt_or_to_decode(sd, tmp_path, monkeypatch):
    from flowmaps.experiments.text_conditioning import pipeline_of

    with hub(monkeypatch, tmp_path / "cache", sd) as server:
        with pytest.raises(ConnectionError, match="model_index.json of some/pipeline is not in the local cache"):
            pipeline_of({"notes": {"folder": server.NAME}})
        assert not server.asked
        opened(server.NAME)
        found = pipeline_of({"notes": {"folder": server.NAME}})
        server.asked.clear()
        for use in (Texts, Latents):
            with pytest.raises(ConnectionError, match="is not in the local cache"):
                use(found)
        assert not server.asked


@contextmanager
def no_network(monkeypatch):
    """No connection is tried."""
    tried = []

    def refuse(*arguments):
        tried.append(arguments)
        raise OSError("there is no network")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield
    assert not tried


@pytest.mark.parametrize("way", WAYS)
def test_a_local_folder_needs_no_network(way, sd, tmp_path, monkeypatch):
    with no_network(monkeypatch):
        WAYS[way](sd, tmp_path / "out")


def test_only_the_known_files_of_a_name_on_the_hub_are_fetched(sd, trace, tmp_path, monkeypatch):
    pickled(sd / "unet" / "diffusion_pytorch_model.bin", trace)
    (sd / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"another variant")
    (sd / "unet" / "evil.py").write_text(code(trace, "E"))
    with hub(monkeypatch, tmp_path / "cache", sd) as server:
        teacher(server.NAME)
        assert server.files == [
            "scheduler/scheduler_config.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        ]  # fmt: skip
        server.asked.clear()
        Texts(server.NAME)
        assert {name.partition("/")[0] for name in server.files} == {"text_encoder", "tokenizer", "vae"}
        assert not any(name.startswith("vae/diff") for name in server.files)  # its config alone, for the size


def test_a_tokenizer_consists_of_its_known_files(sd):
    (sd / "tokenizer" / "more.py").write_text("")
    (sd / "tokenizer" / ".env").write_text("")
    assert set(files_of(sd / "tokenizer", TOKENIZER)) <= {TOKENIZER.config, *TOKENIZER.others}


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def loads(monkeypatch):
    """Loads of models by diffusers and transformers in a test."""
    calls = []
    for library, names in CLASSES.items():
        for name, kind in names.items():
            if kind.weights:
                monkeypatch.setattr(class_of(library, name), "from_pretrained", lambda *_, **__: calls.append(1))
    return calls


SIZES = {
    "wide": ("teacher", "unet/config.json", {"block_out_channels": [10**6, 2 * 10**6]}),
    "layers": ("teacher", "unet/config.json", {"layers_per_block": 10**9}),
    "text": ("export", "unet/config.json", {"cross_attention_dim": 10**9}),
    "classes": ("teacher", "unet/config.json", {"num_class_embeds": 10**9}),
    "VAE": ("latents", "vae/config.json", {"block_out_channels": [10**6, 10**6]}),
    "encoder": ("texts", "text_encoder/config.json", {"hidden_size": 10**6}),
    "words": ("texts", "text_encoder/config.json", {"vocab_size": 10**9}),
    "positions": ("texts", "text_encoder/config.json", {"max_position_embeddings": 10**9}),
    "layers of an encoder": ("texts", "text_encoder/config.json", {"num_hidden_layers": 10**9}),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.slow
def test_a_component_far_larger_than_its_weights_is_refused_before_it_is_made(name, sd, tmp_path, loads):
    way, file, change = SIZES[name]
    edited(sd / file, **change)
    with pytest.raises((OSError, ValueError), match="its weights have|far more than the weights in"):
        WAYS[way](sd, tmp_path / "out")
    assert not loads


ENTRIES = {
    "timesteps": ("teacher", "scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "from 1 to 1000000"),
    "timesteps that are null": (
        "teacher",
        "scheduler/scheduler_config.json",
        {"num_train_timesteps": [None]},
        "num_train_timesteps must be int",
    ),
    "no timesteps": ("teacher", "scheduler/scheduler_config.json", {"num_train_timesteps": -5}, "from 1 to 1000000"),
    "tokens": ("texts", "tokenizer/tokenizer_config.json", {"model_max_length": 10**9}, "must be at most 32768"),
    "scale": ("latents", "vae/config.json", {"scaling_factor": "x"}, r"scaling_factor must be float \| None, got 'x'"),
    "betas": ("teacher", "scheduler/scheduler_config.json", {"trained_betas": "many"}, r"trained_betas must be list"),
    "a size": ("teacher", "unet/config.json", {"sample_size": {"a": 1}}, "sample_size must be"),
    "a type": ("teacher", "unet/config.json", {"block_out_channels": {}}, "cannot be loaded"),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_entries_of_a_config_that_cannot_be_are_refused(name, sd, tmp_path):
    way, file, change, said = ENTRIES[name]
    edited(sd / file, **change)
    with pytest.raises((OSError, ValueError), match=said):
        WAYS[way](sd, tmp_path / "out")
