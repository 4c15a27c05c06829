"""Exports of pipelines and runs of somebody else: known files alone are copied, and a card shows text alone."""

import ast
import json
import os
import shutil
from html.parser import HTMLParser

import diffusers
import pytest
import torch

import flowmaps as fm
from flowmaps import export
from flowmaps.export.card import Card, write_card
from flowmaps.export.copying import copy_component
from flowmaps.export.words import block, escaped, in_python, without_paths
from flowmaps.integrations.diffusers import teacher
from flowmaps.integrations.diffusers.component_files import MODEL
from tests.integrations import tiny
from tests.security.planted import SECRET, code, component, edited, pickled
from tests.security.served import hub

markdown_it = pytest.importorskip("markdown_it")
huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return tiny.stable_diffusion(tmp_path_factory.mktemp("pipeline") / "sd")


@pytest.fixture(scope="module")
def flow(saved):
    return fm.student(teacher(saved))


@pytest.fixture
def base(saved, tmp_path):
    """A copy of Stable Diffusion to plant things in."""
    return shutil.copytree(saved, tmp_path / "given" / "sd")


@pytest.fixture
def out(tmp_path):
    (tmp_path / "exports").mkdir()
    return tmp_path / "exports" / "out"


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "credentials").write_text(SECRET)
    return tmp_path / "home" / "credentials"


def refused(flow, out, base, said):
    """An export that raises, and leaves nothing behind, inside its folder or beside it."""
    before = {path for path in out.parent.parent.rglob("*")}
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        export.to_diffusers(flow, out, base)
    assert {path for path in out.parent.parent.rglob("*")} == before


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


# --- what is copied ---------------------------------------------------------------------------------------------------


def test_a_component_with_code_is_refused(flow, base, out, tmp_path):
    component(base, "safety_checker", "evil", "E", tmp_path / "ran")
    refused(
        flow, out, base, "the safety_checker of .*sd is a E of 'evil', which flowmaps neither loads nor copies: .*null"
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../planted", "../../planted", "/tmp/planted", "a/b", "a\\b", "..", ".env", "", "né"])
@pytest.mark.parametrize("entry", [["diffusers", "AutoencoderKL"], ["transformers", "CLIPTextModel"]])
def test_a_name_that_is_no_plain_name_is_refused(name, entry, flow, base, out):
    shutil.copytree(base / "vae", base.parent / "planted")
    edited(base / "model_index.json", **{name: entry})
    refused(flow, out, base, r"has a component .*: its name must have letters, digits and _ alone")


def test_files_that_belong_to_no_component_stay_behind(flow, base, out, tmp_path):
    for part in ("vae", "text_encoder", "tokenizer", "unet", "scheduler", ""):
        (base / part / ".env").write_text(SECRET)
        (base / part / "evil.py").write_text(code(tmp_path / "ran", "E"))
        (base / part / "notes.txt").write_text(SECRET)
        (base / part / "deeper").mkdir()
        (base / part / "deeper" / "config.json").write_text(SECRET)
        pickled(base / part / "weights.bin", tmp_path / "ran")
    (base / "stranger").mkdir()
    (base / "stranger" / "config.json").write_text(SECRET)
    export.to_diffusers(flow, out, base)
    copied = {name for name in files(out) if name.split("/")[0] in ("vae", "text_encoder", "tokenizer")}
    assert copied == {
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "text_encoder/config.json",
        "text_encoder/model.safetensors", "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json",
    }  # fmt: skip
    assert not any(SECRET.encode() in (out / name).read_bytes() for name in files(out))
    assert not any(name.endswith(".py") and "flow_map" not in name for name in files(out))


@pytest.mark.parametrize(
    "name",
    ["vae/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json", "tokenizer/merges.txt"],
)
@pytest.mark.parametrize("target", ["secret", "beside", "inside", "chain"])
def test_a_link_is_not_followed(name, target, flow, base, out, secret):
    """To a file of the machine, to the same file somewhere else, to a file of the folder, or over another link."""
    link = base / name
    whole = base.parent / "whole"
    if link.is_file():
        shutil.copyfile(link, whole)
        link.unlink()
    else:
        whole.write_text("")
    (base / "inside").write_bytes(whole.read_bytes())
    (base.parent / "hop").symlink_to(whole)
    link.symlink_to(
        {"secret": secret, "beside": whole, "inside": base / "inside", "chain": base.parent / "hop"}[target]
    )
    refused(
        flow, out, base, "is a link to .*, and links are not followed: put the file itself there|cannot be read: Exp"
    )


def test_a_component_that_is_a_link_is_not_followed(flow, base, out):
    shutil.move(base / "vae", base.parent / "vae")
    (base / "vae").symlink_to(base.parent / "vae")
    refused(flow, out, base, "the vae of .* cannot be copied: .* is a link to .*vae.config.json")


def test_the_folder_itself_may_be_a_link(flow, base, out):
    (base.parent / "link").symlink_to(base)
    export.to_diffusers(flow, out, base.parent / "link")
    assert (out / "vae" / "config.json").is_file()


def test_a_file_that_is_no_regular_one_is_not_read(flow, base, out):
    os.mkfifo(base / "tokenizer" / "merges.txt")
    export.to_diffusers(flow, out, base)
    assert not (out / "tokenizer" / "merges.txt").exists()


def test_a_snapshot_of_the_hub_is_copied_as_files(flow, base, out, tmp_path, monkeypatch):
    """Its files are links to the blobs of the same repository."""
    with hub(monkeypatch, tmp_path / "cache", base) as server:
        export.to_diffusers(flow, out, server.NAME)
        [cached] = tmp_path.glob("cache/models--*/snapshots/*/vae/config.json")
        assert cached.is_symlink()
        assert files(out) >= {"vae/config.json", "vae/diffusion_pytorch_model.safetensors", "tokenizer/tokenizer.json"}
        assert not any(path.is_symlink() for path in out.rglob("*"))
        shutil.rmtree(out)
        server.asked.clear()
        export.to_diffusers(flow, out, cached.parents[1])
        assert (out / "vae" / "config.json").read_bytes() and not server.asked


@pytest.mark.parametrize("how", ["blob", "blobs", "elsewhere", "deeper"])
def test_a_folder_that_looks_like_a_snapshot_carries_nothing_away(how, flow, base, out, secret):
    repository = base.parent / "models--evil--x"
    snapshot = repository / "snapshots" / "abc"
    shutil.copytree(base, snapshot)
    blobs = repository / "blobs"
    target = snapshot / "tokenizer" / "merges.txt"
    if how == "blobs":
        blobs.symlink_to(secret.parent)
        target.symlink_to(blobs / "credentials")
    else:
        (blobs / "more").mkdir(parents=True)
        (blobs / "more" / "x").write_text("")
        (blobs / "x").symlink_to(secret)
        target.symlink_to({"blob": blobs / "x", "elsewhere": secret, "deeper": blobs / "more" / "x"}[how])
    refused(flow, out, snapshot, "the tokenizer of .* is a link to .*, and links are not followed")


def test_weights_are_safetensors(flow, base, out, tmp_path):
    weights = base / "vae" / "diffusion_pytorch_model.safetensors"
    kept = weights.read_bytes()
    pickled(weights, tmp_path / "ran")
    refused(flow, out, base, "vae of .*safetensors is a pickle, which may hold code; it was not opened")
    weights.write_text(SECRET)
    refused(flow, out, base, "vae of .*safetensors is not a safetensors file")
    weights.unlink()
    pickled(base / "vae" / "diffusion_pytorch_model.bin", tmp_path / "ran")
    refused(flow, out, base, "diffusion_pytorch_model.bin may hold code, so it is never opened: .*save_pretrained")
    index = base / "vae" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../home/credentials"}}))
    refused(flow, out, base, "names '../../home/credentials', which is no part of these weights")
    index.unlink()
    weights.write_bytes(kept)
    export.to_diffusers(flow, out, base)
    assert (out / "vae" / weights.name).read_bytes() == kept and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("size", ["10GB", "5KB"])
def test_a_variant_that_is_alone_becomes_the_main_weights(size, base, tmp_path):
    vae = diffusers.AutoencoderKL.from_pretrained(base, subfolder="vae")
    vae.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size=size)
    copy_component(MODEL, tmp_path / "half", tmp_path / "copy")
    assert not any("fp16" in name for name in files(tmp_path / "copy"))
    again = diffusers.AutoencoderKL.from_pretrained(tmp_path / "copy", use_safetensors=True)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in vae.state_dict().items())


def test_a_copied_config_does_not_say_where_it_came_from(flow, base, out):
    edited(base / "text_encoder" / "config.json", _name_or_path="/home/somebody/private/sd")
    edited(
        base / "tokenizer" / "tokenizer_config.json",
        name_or_path="C:\\Users\\somebody\\sd",
        vocab_file="/home/somebody/v",
    )
    export.to_diffusers(flow, out, base)
    texts = [(out / name).read_text() for name in files(out) if name.endswith((".json", ".md", ".py"))]
    assert not any("somebody" in text or str(base.parent) in text for text in texts)
    assert json.loads((out / "text_encoder" / "config.json").read_text())["_name_or_path"] == "sd"


def test_a_written_network_builds_the_definitions_of_its_file_alone():
    from flowmaps.export.templates.building import made

    for name in ("torch", "Any", "__builtins__", "exec", "__import__", "annotations", None, 3):
        for description in ({"type": name, "arguments": {}}, {"function": name}):
            with pytest.raises(ValueError, match="this file defines no"):
                made([{"inner": description}])


# --- cards ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "![x](https://evil.com/x)",
    "https://evil.com/x", "www.evil.com", "<https://evil.com>", "**bold** _it_ ~~gone~~ `code`", "```\nrm -rf /\n```",
    "# title", "- item", "1. item", "> quote", "x\n\n# title\n\n---\nlicense: mit\n---", "a | b\n--- | ---\nc | d",
    "&lt;b&gt; &copy;", "</code></pre><b>", "[ref]: https://evil.com", "\\<b>", "\u202egnp.exe", "x\r\ny\tz\x1b[31m",
    "---", "...", "license: other", "{{ 1 }}", "%{x}", "$x$", "@somebody", '"); import os; ("', "'); x('", "````",
]  # fmt: skip
PATHS = [
    "/home/somebody/x", "~/somebody/x", "C:\\somebody\\x", "\\\\host\\somebody\\x", "of /home/somebody/x, and more",
    "file:///somebody/x", "../../somebody/x", "['/home/somebody/x']", "/home/some body/somebody/x",
]  # fmt: skip


class Tags(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = set(), ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags |= {tag, *(name for name, _ in attributes if name not in ("class", "style"))}

    def handle_data(self, data):
        self.text += data


def card(folder, name):
    """A card that has a name in every place that may hold one, and its rendered page."""
    row = {"sampler": name, "steps": name, "distance": 0.1, "stderr": 0.01, "seconds_per_sample": 1e-3, "run": name,
           "network_calls": name}  # fmt: skip
    measured = {"metric": name, "floor": 0.1, "floor_stderr": 0.1, "rows": [row], "step": name, "samples": name,
                "device": name}  # fmt: skip
    config = {
        "method": {"name": name}, "data": {"name": name}, "versions": {name: name},
        "notes": {name: name, "prompt": [name], "folder": {name: name}},
        "training": {"optimizer": {"type": name, "arguments": {name: name}}, name: name, "lr": 1e-3},
    }  # fmt: skip
    use = f"name = {in_python(name)}\nother = 1"
    write_card(folder, Card(use, "other"), name, config, measured, name)
    text = (folder / "README.md").read_text()
    _, _, body = text.removeprefix("---\n").partition("\n---\n")
    html = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(body)
    return text, Tags(html)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_stays_text_on_a_card(name, tmp_path):
    text, page = card(tmp_path, name)
    plain = card(tmp_path, "name")[1]
    assert page.tags == plain.tags and "a" not in page.tags and "img" not in page.tags
    shown = " ".join("".join(c for c in " ".join(name.split()) if c.isprintable()).split())
    assert " ".join(page.text.split()).count(shown) >= 3
    head = huggingface_hub.ModelCard(text).data.to_dict()
    assert head.keys() <= {"library_name", "pipeline_tag", "base_model", "tags"} and "license" not in head
    assert not any(c in text for c in "\u202e\x1b\r\t")


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_stays_a_string_in_the_code_of_a_card(name, tmp_path):
    tree = ast.parse(f"name = {in_python(name)}")
    assert ast.literal_eval(tree.body[0].value) == name and len(tree.body) == 1 and in_python(name).isascii()
    found = markdown_it.MarkdownIt("commonmark").parse(block(f"x = {in_python(name)}\ny = 1"))
    assert [token.type for token in found] == ["fence"] and found[0].content.endswith("\ny = 1\n")


@pytest.mark.parametrize("name", PATHS)
def test_a_card_holds_no_path_of_a_machine(name, tmp_path):
    text, page = card(tmp_path, name)
    code_of_use = f"name = {in_python(name)}"
    assert "somebody" not in text.replace(code_of_use, "") and "some body" not in text.replace(code_of_use, "")
    assert "x" in page.text


def test_settings_that_are_no_paths_are_kept():
    for text in (
        "a/b",
        "runs/one",
        "1e-3/2",
        "0.1 / 0.2",
        "uniform_triangle(1e-3, 1.0)",
        "owner/name",
        "a, b",
        "F(x, s, t)",
    ):
        assert without_paths(text) == text
        assert markdown_it.MarkdownIt("commonmark").render(escaped(text)) == f"<p>{text}</p>\n"
    assert without_paths({"a": ["/home/x/y", 3, None]}) == {"a": ["y", 3, None]}
    assert len(escaped("x" * 10_000)) < 400


def test_the_card_of_a_folder_with_a_hostile_name(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = fm.FlowMap(fm.networks.MLP(2, 8, 1, embedding=8))
    name = 'x"); open("ran", "w") #```<b>'
    monkeypatch.chdir(tmp_path)
    export.to_diffusers(network, name)
    use = (tmp_path / name / "README.md").read_text().partition("python\n")[2].partition("\n````")[0]
    [call] = [node for node in ast.walk(ast.parse(use)) if getattr(node, "attr", "") == "from_pretrained"]
    strings = [node.value for node in ast.walk(ast.parse(use)) if isinstance(node, ast.Constant)]
    assert (
        call is not None and name in strings and "open" not in {getattr(n, "id", "") for n in ast.walk(ast.parse(use))}
    )
