"""Prompts to conditions: equal to what the pipelines make of them, and taken by their networks."""

import diffusers
import pytest
import torch

from flowmaps.integrations.diffusers.folder import opened
from flowmaps.integrations.diffusers.text import Texts
from tests.integrations import tiny

PROMPTS = ["a cat, two dogs", ""]


def positional(result):
    return [part for part in result if part is not None]


# the pipeline; the names of what its encode_prompt returns, with guidance off; how it is called
CASES = {
    tiny.stable_diffusion: (
        ("text",),
        {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False},
    ),
    tiny.sdxl: (("text", "pooled"), {"do_classifier_free_guidance": False}),
    tiny.sd3: (
        ("text", "pooled"),
        {"prompt_2": None, "prompt_3": None, "do_classifier_free_guidance": False, "max_sequence_length": 12},
    ),
    tiny.flux: (("text", "pooled", None), {"max_sequence_length": 12}),
    tiny.pixart: (("text", "mask"), {"do_classifier_free_guidance": False, "max_sequence_length": 12}),
    tiny.wan: (("text",), {"do_classifier_free_guidance": False, "max_sequence_length": 12}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(folder, its prompts' conditions, those by its own encode_prompt)."""
    folder = request.param(tmp_path_factory.mktemp("pipeline"))
    names, arguments = CASES[request.param]
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    with torch.no_grad():
        own = positional(pipeline.encode_prompt(PROMPTS, **arguments))
    return folder, Texts(folder, length=12), dict(zip(names, own, strict=True))


def test_they_equal_those_of_the_pipeline(case):
    _, texts, expected = case
    given = texts.encode(PROMPTS)
    for name, value in expected.items():
        if name is not None:
            assert torch.equal(given[name][0], value[0]), name
            forced = getattr(texts.pipeline.config, "force_zeros_for_empty_prompt", False)
            assert torch.equal(given[name][1], value[1] if not forced else torch.zeros_like(value[1])), name
    assert given.keys() - {"size"} == expected.keys() - {None}
    assert not torch.allclose(given["text"][0], given["text"][1])


def test_the_network_takes_them_and_needs_no_more(case):
    folder, texts, _ = case
    source = opened(folder)
    name = next(name for name in source.names if name in ("unet", "transformer"))
    network = source.network(name, None)
    given = texts.encode(PROMPTS)
    assert network.needs.keys() <= given.keys() <= network.takes.keys()
    x = torch.randn(2, 4, *((1,) if "Wan" in network.class_name else ()), 8, 8)
    assert network(x, torch.tensor([5.0, 500.0]), **given).shape == x.shape


def test_only_the_encoders_are_loaded(case):
    pipeline = case[1].pipeline
    assert all(getattr(pipeline, name, None) is None for name in ("unet", "transformer", "vae"))
    assert not any(p.requires_grad for p in case[1].parameters())


def test_a_prompt_is_encoded_alike_in_any_company(case):
    _, texts, _ = case
    alone, together = texts.encode(PROMPTS[:1]), texts.encode(["another", *PROMPTS])
    for name, value in alone.items():
        assert torch.allclose(value[0], together[name][1], atol=1e-5), name


def test_sizes_of_sdxl(tmp_path):
    folder = tiny.sdxl(tmp_path)
    assert torch.equal(Texts(folder).encode(["a"])["size"], torch.tensor([[16.0, 16, 0, 0, 16, 16]]))
    assert torch.equal(
        Texts(folder, size=(32, 16)).encode(["a", "b"])["size"], torch.tensor([[32.0, 16, 0, 0, 32, 16]] * 2)
    )


def test_sizes_of_pixart(tmp_path):
    texts = Texts(tiny.pixart(tmp_path, sizes=True), size=(32, 16), length=12)
    assert torch.equal(texts.encode(["a"])["size"], torch.tensor([[32.0, 16, 2]]))


def test_the_length_by_default_is_that_of_the_pipeline(tmp_path):
    texts = Texts(tiny.wan(tmp_path))
    assert texts.length == 512


def test_a_loaded_pipeline_keeps_its_parts(tmp_path):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tiny.stable_diffusion(tmp_path))
    texts = Texts(pipeline)
    assert texts.pipeline is pipeline and pipeline.unet is not None
    assert torch.equal(texts.encode(["a"])["text"], Texts(tmp_path).encode(["a"])["text"])


def test_what_it_refuses(tmp_path):
    with pytest.raises(ValueError, match="no text encoder: its network takes no text"):
        Texts(tiny.ddpm_unet(tmp_path / "unet"))
    folder = tiny.stable_diffusion(tmp_path / "sd")
    with pytest.raises(TypeError, match="expected a list of prompts, got the text 'a cat'"):
        Texts(folder).encode("a cat")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    with pytest.raises(
        ValueError,
        match="cannot encode prompts by a StableDiffusionImg2ImgPipeline; known pipelines are StableDiffusion",
    ):
        Texts(pipeline)
