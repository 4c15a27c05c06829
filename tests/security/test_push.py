"""Uploads: a folder of somebody else runs nothing in the check, and files that export did not write are not sent."""

import hashlib
import json
import shutil

import diffusers
import diffusers.utils.dynamic_modules_utils as dynamic
import pytest
import torch

import flowmaps as fm
from flowmaps import export
from flowmaps.export.check import check
from flowmaps.export.files import MARK
from flowmaps.integrations import peft
from flowmaps.integrations.diffusers import teacher
from tests.export.hub import WRITER, Hub
from tests.integrations import tiny
from tests.security.planted import SECRET, code, component, edited, pickled


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of a network of ours, of one that restarts, of a student of a pipeline, and an adapter."""
    home = tmp_path_factory.mktemp("exported")
    torch.manual_seed(0)
    network = fm.networks.MLP(2, 8, 1, embedding=8)
    base = tiny.stable_diffusion(home / "base")
    flows = {
        "points": fm.FlowMap(network),
        "restarts": fm.FlowMap(network, only_target=0.0),
        "student": fm.student(teacher(base)),
        "lora": peft.lora(fm.student(teacher(base)), 2),
    }
    found = {name: export.to_diffusers(flow, home / name) for name, flow in flows.items()}
    return found | {"adapter": export.adapter(flows["lora"], home / "adapter")}


@pytest.fixture
def folder(made, tmp_path):
    """A copy of the student's folder, to plant things in."""
    return shutil.copytree(made["student"], tmp_path / "student")


@pytest.fixture
def points(made, tmp_path):
    return shutil.copytree(made["points"], tmp_path / "points")


@pytest.fixture
def trace(tmp_path):
    """A file that is there if something ran."""
    return tmp_path / "ran"


@pytest.fixture(autouse=True)
def nothing_foreign(monkeypatch, tmp_path):
    """No account of this machine, and no way into the code of a folder."""

    def refuse(*_, **__):
        raise AssertionError("code of a folder was asked for")

    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(dynamic, "get_class_in_module", refuse)
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", refuse)
    constants = pytest.importorskip("huggingface_hub").constants
    for name, value in {"HF_HUB_DISABLE_XET": True, "HF_HUB_OFFLINE": False}.items():
        monkeypatch.setattr(constants, name, value)


@pytest.fixture
def hub():
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


def vouch(folder, *names):
    """List files with their checksums, as one could who plants files there."""
    mark = json.loads((folder / MARK).read_text())
    for name in (*mark["files"], *names):
        mark["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / MARK).write_text(json.dumps(mark))


def push(folder, hub):
    return export.push_to_hub(folder, "me/model", token=WRITER, endpoint=hub.address)


def refused(folder, hub, said):
    with pytest.raises(ValueError, match=said):
        push(folder, hub)
    assert not hub.asked and not hub.repositories


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["points", "restarts", "student", "lora", "adapter"])
def test_an_export_is_sent_whole(name, made, hub):
    """Nothing is left out, and the check runs neither the folder's code nor a class that is looked up in it."""
    push(made[name], hub)
    assert hub.repositories["me/model"] == {file: (made[name] / file).read_bytes() for file in files(made[name])}


@pytest.mark.parametrize("make", [tiny.ddpm_unet, tiny.sdxl, tiny.dit, tiny.flux, tiny.wan])
def test_every_kind_of_pipeline_passes(make, tmp_path):
    out = export.to_diffusers(fm.student(teacher(make(tmp_path / "base"))), tmp_path / "out")
    assert set(check(out)) == files(out)


# --- code -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["", "unet/", "end"])
def test_code_that_was_changed_is_not_run(where, folder, hub, trace):
    """With its own checksum in the list: at its start, or at its end, where the rest is as it was written."""
    [path] = folder.glob("flow_map_*.py") if where in ("", "end") else folder.glob("unet/*.py")
    touch = code(trace).encode()
    path.write_bytes(path.read_bytes() + touch if where == "end" else touch + path.read_bytes())
    refused(folder, hub, f"{path.name} has changed since the export, so nothing was sent")
    vouch(folder)
    refused(
        folder, hub, f"{path.name} is not the code that flowmaps .* writes, so it was not run: export the run again"
    )
    assert not trace.exists()


def test_code_under_the_name_of_its_checksum_is_not_run(points, hub, trace):
    """The name of a written file has a checksum of its text."""
    [old] = points.glob("flow_map_pipeline_*.py")
    text = old.read_text() + code(trace)
    new = points / f"flow_map_pipeline_{hashlib.sha256(text.encode()).hexdigest()[:8]}.py"
    new.write_text(text)
    old.unlink()
    edited(points / "model_index.json", _class_name=[new.stem, "FlowMapPipeline"])
    mark = json.loads((points / MARK).read_text())
    del mark["files"][old.name]
    (points / MARK).write_text(json.dumps(mark))
    vouch(points, new.name)
    refused(points, hub, "is not the code that flowmaps .* writes, so it was not run")
    assert not trace.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"template": "../hub"}, {"template": "evil"}, {"names": ["files.remove"]}, {"names": ["cli.main"]},
        {"names": ["flowmaps.export.hub:push_to_hub"]}, {"names": ["os.system"]}, {"names": [3]}, {"names": 3},
        {"stock": "utils"}, {"stock": "x; import os"}, {"stock": "DiffusionPipeline"}, {"more": 1},
    ],
)  # fmt: skip
def test_a_file_that_says_that_it_is_made_of_other_things_is_not_run(change, folder, hub, trace):
    [path] = folder.glob("flow_map_pipeline_*.py")
    start, made_of, rest = path.read_text().partition("# made of ")
    line, _, rest = rest.partition("\n")
    path.write_text(f"{start}{made_of}{json.dumps(json.loads(line) | change)}\n{rest}")
    vouch(folder)
    refused(folder, hub, "is not the code that flowmaps .* writes, so it was not run")


@pytest.mark.parametrize("name", ["safety_checker", "vae", "scheduler", "unet", "more"])
def test_a_component_with_code_is_not_run(name, folder, hub, trace):
    component(folder, name, "evil", "E", trace)
    refused(folder, hub, "model_index.json has changed since the export")
    vouch(folder, f"{name}/evil.py", f"{name}/config.json")
    refused(folder, hub, "evil.py is not the code that flowmaps .* writes, so it was not run")
    (folder / name / "evil.py").unlink()
    mark = json.loads((folder / MARK).read_text())
    del mark["files"][f"{name}/evil.py"]
    (folder / MARK).write_text(json.dumps(mark))
    refused(folder, hub, f"the {name} of .* is a E of 'evil', which flowmaps neither loads")
    assert not trace.exists()


def test_code_under_the_name_of_a_library_is_not_run(folder, hub, trace):
    """Diffusers looks for `vae/diffusers.py` before it takes the library."""
    (folder / "vae" / "diffusers.py").write_text(code(trace, "AutoencoderKL"))
    (folder / "None.py").write_text(code(trace, "FlowMapPipeline"))
    refused(folder, hub, "diffusers.py is not the code that flowmaps .* writes, so it was not run")
    assert not trace.exists()


@pytest.mark.parametrize(
    "entry", [["evil", "E"], "StableDiffusionPipeline", ["../evil", "E"], [], ["a", "b", "c"], None]
)
def test_a_pipeline_class_of_somebody_else_is_not_run(entry, folder, hub, trace):
    (folder / "evil.py").write_text(code(trace, "E"))
    (folder.parent / "evil.py").write_text(code(trace, "E"))
    edited(folder / "model_index.json", _class_name=entry)
    vouch(folder, "evil.py")
    refused(folder, hub, "does not load, so nothing was sent: ")
    assert not trace.exists()


def test_another_class_of_a_written_file_is_not_loaded(points, hub):
    index = json.loads((points / "model_index.json").read_text())
    edited(points / "model_index.json", network=[index["network"][0], "MLP"])
    vouch(points)
    refused(points, hub, "names the class 'MLP' of network/.*, which has FlowMapNetwork")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("unet", {"block_out_channels": [10**6, 2 * 10**6]}),
        ("unet", {"layers_per_block": 10**9}),
        ("text_encoder", {"vocab_size": 10**9}),
        ("network", {"flow": {"network": {"type": "MLP", "arguments": {"shape": 2, "width": 10**6, "depth": 2}}}}),
    ],
    ids=["wide", "deep", "words", "written"],
)
def test_a_size_far_beyond_the_weights_is_refused_before_it_is_made(name, change, folder, points, hub):
    at = points if name == "network" else folder
    before = json.loads((at / name / "config.json").read_text())
    edited(
        at / name / "config.json",
        **{key: {**before[key], **value} if key == "flow" else value for key, value in change.items()},
    )
    vouch(at)
    refused(at, hub, "its weights have|far more than the weights in")


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_pickle_is_neither_opened_nor_sent(suffix, folder, hub, trace):
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    pickled(weights.with_suffix(suffix), trace)
    mark = json.loads((folder / MARK).read_text())
    del mark["files"]["vae/diffusion_pytorch_model.safetensors"]
    (folder / MARK).write_text(json.dumps(mark))
    vouch(folder, f"vae/diffusion_pytorch_model{suffix}")
    refused(folder, hub, "does not load, so nothing was sent: ")
    assert not trace.exists()


def test_an_adapter_of_somebody_else_brings_no_code(made, hub, trace, tmp_path):
    adapter = shutil.copytree(made["adapter"], tmp_path / "adapter")
    (adapter / "evil.py").write_text(code(trace, "E"))
    vouch(adapter, "evil.py")
    refused(adapter, hub, "evil.py is no file that export writes, so nothing was sent")
    assert not trace.exists()


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_that_export_did_not_write_are_left_out_and_named(folder, hub, tmp_path):
    (tmp_path / "credentials").write_text(SECRET)
    before = files(folder)
    for name in (".env", "vae/.env", "notes.txt", "unet/optimizer.bin", ".git/config", "vae/deep/er.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SECRET)
    (folder / "link").symlink_to(tmp_path / "credentials")
    (folder / "vae" / "home").symlink_to(tmp_path)
    with pytest.warns(UserWarning, match="not sent, because export did not write it: ") as said:
        push(folder, hub)
    sent = hub.repositories["me/model"]
    assert sent.keys() == before and not any(SECRET.encode() in content for content in sent.values())
    for name in (".env", "vae/.env", "notes.txt", "unet/optimizer.bin", ".git/config", "link", "vae/home"):
        assert name in str(said[0].message)


@pytest.mark.parametrize("name", ["vae/config.json", "unet/diffusion_pytorch_model.safetensors", "README.md", MARK])
@pytest.mark.parametrize("same", [True, False])
def test_a_link_in_the_place_of_a_file_is_refused(name, same, folder, hub, tmp_path):
    """To a file with the same content too: it can be changed after the check."""
    target = tmp_path / "credentials"
    target.write_bytes((folder / name).read_bytes() if same else SECRET.encode())
    (folder / name).unlink()
    (folder / name).symlink_to(target)
    refused(folder, hub, f"{name} is a link to .*credentials, and links are not followed")


def test_a_folder_that_is_a_link_is_refused(folder, hub, tmp_path):
    shutil.move(folder / "vae", tmp_path / "vae")
    (folder / "vae").symlink_to(tmp_path / "vae")
    refused(folder, hub, "vae/.* is a link to .*, and links are not followed")


@pytest.mark.parametrize(
    "name",
    ["../credentials", "vae/../../credentials", ".env", "vae/.env", "vae/notes.txt", "deep/er/config.json", "x.py"],
)
def test_a_list_with_other_files_is_refused(name, folder, hub, tmp_path):
    """The list lies in the folder: whoever plants a file there can list it."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(SECRET)
    vouch(folder, name)
    refused(folder, hub, "is a link to|is no file that export writes, so nothing was sent: remove the folder")


@pytest.mark.parametrize("name", ["vae/config.json", "model_index.json", "unet/diffusion_pytorch_model.safetensors"])
def test_a_file_that_was_changed_is_refused(name, folder, hub):
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    refused(folder, hub, f"{name} has changed since the export, so nothing was sent: export the run again")
    (folder / name).unlink()
    refused(folder, hub, f"{name} is no regular file")


@pytest.mark.parametrize(
    "mark", ["", "[]", "{}", '{"format": 2}', '{"format": 2, "kind": "pipeline", "files": [1]}', "[" * 100_000]
)
def test_a_list_that_cannot_be_read_is_refused(mark, points, hub):
    (points / MARK).write_text(mark)
    refused(points, hub, "the list of files of .*points, flow_map.json, cannot be read")


def test_a_folder_of_an_earlier_version_is_exported_again(points, hub):
    (points / MARK).write_text('{"format": 1, "kind": "pipeline", "flowmaps": "0.1.0"}')
    refused(points, hub, "written by an earlier version, without a list of its files: export the run again")
    (points / MARK).write_text('{"format": 2, "kind": "evil", "files": {}}')
    refused(points, hub, "does not load, so nothing was sent: 'evil'")


def test_a_licence_on_the_card_is_sent(points, hub):
    """The card asks for it; it is the one file that its reader changes."""
    text = (points / "README.md").read_text().replace("---\n", "---\nlicense: mit\n", 1)
    (points / "README.md").write_text(text)
    push(points, hub)
    assert hub.repositories["me/model"]["README.md"].decode() == text


def test_the_sampler_of_an_export_is_listed_and_sent(hub, tmp_path):
    flow = fm.FlowMap(fm.networks.MLP(2, 8, 1, embedding=8))
    fm.experiments.export(flow, tmp_path / "out", program=True)
    push(tmp_path / "out", hub)
    assert hub.repositories["me/model"].keys() == files(tmp_path / "out") >= {"one_step.pt2"}
    (tmp_path / "out" / "one_step.pt2").write_bytes(b"another")
    with pytest.raises(ValueError, match="one_step.pt2 has changed since the export"):
        push(tmp_path / "out", hub)
