"""The networks of diffusers in one way of calling them: equal to the model called directly."""

import json
import warnings

import diffusers
import pytest
import torch

from flowmaps import derivative
from flowmaps import serialise as describe
from flowmaps.forward_mode import dual
from flowmaps.integrations.diffusers import teacher
from flowmaps.integrations.diffusers.networks import DiffusersNetwork, forget_folder
from tests.integrations import tiny

B, L = 2, 5


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


LABEL, TEXT, WIDE = torch.tensor([3, 7]), drawn(B, L, 8), drawn(B, L, 16)
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
SIZE, PIXART = torch.tensor([[16.0, 16, 0, 0, 16, 16], [32, 16, 4, 0, 16, 16]]), torch.tensor([[16.0, 16, 1]] * B)


def flux_directly(model, x, t, text, pooled, guidance=None):
    """As FluxPipeline calls it, with its own packing."""
    pipeline = diffusers.FluxPipeline
    ids = pipeline._prepare_latent_image_ids(B, 4, 4, x.device, x.dtype)
    packed = pipeline._pack_latents(x, B, 4, 8, 8)
    value = model(
        packed, text, pooled, t / 1000, img_ids=ids, txt_ids=torch.zeros(L, 3), guidance=guidance
    ).sample  # fmt: skip
    return pipeline._unpack_latents(value, 8, 8, 1)


# name: the pipeline, its conditions, the model called directly
CASES = {
    "unet": (lambda f: tiny.ddpm_unet(f), {}, lambda m, x, t: m(x, t).sample),
    "unet of classes": (
        lambda f: tiny.ddpm_unet(f, classes=10), {"label": LABEL},
        lambda m, x, t, label: m(x, t, class_labels=label).sample,
    ),
    "stable diffusion": (
        tiny.stable_diffusion, {"text": TEXT}, lambda m, x, t, text: m(x, t, encoder_hidden_states=text).sample
    ),
    "sdxl": (
        tiny.sdxl, {"text": WIDE, "pooled": drawn(B, 8), "size": SIZE},
        lambda m, x, t, text, pooled, size: m(
            x, t, text, added_cond_kwargs={"text_embeds": pooled, "time_ids": size}
        ).sample,
    ),
    "dit": (tiny.dit, {"label": LABEL}, lambda m, x, t, label: m(x, t, label).sample[:, :4]),
    "sd3": (
        tiny.sd3, {"text": WIDE, "pooled": drawn(B, 16)},
        lambda m, x, t, text, pooled: m(x, text, pooled, t).sample,
    ),
    "flux dev": (
        tiny.flux, {"text": TEXT, "pooled": drawn(B, 8), "guidance": torch.tensor([1.0, 5.0])}, flux_directly
    ),
    "flux schnell": (
        lambda f: tiny.flux(f, guidance=False), {"text": TEXT, "pooled": drawn(B, 8)}, flux_directly
    ),
    "pixart": (
        tiny.pixart, {"text": TEXT, "mask": MASK},
        lambda m, x, t, text, mask: m(
            x, text, t, {"resolution": None, "aspect_ratio": None}, encoder_attention_mask=mask
        ).sample[:, :4],
    ),
    "pixart of sizes": (
        lambda f: tiny.pixart(f, sizes=True), {"text": TEXT, "size": PIXART},
        lambda m, x, t, text, size: m(
            x, text, t, {"resolution": torch.full((B, 2), 16.0), "aspect_ratio": torch.ones(B, 1)}
        ).sample[:, :4],
    ),
    "wan": (tiny.wan, {"text": TEXT}, lambda m, x, t, text: m(x, t, text).sample),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """(network, x, time, condition, the model called directly)."""
    make, condition, directly = CASES[request.param]
    folder = make(tmp_path_factory.mktemp("pipeline"))
    part = "unet" if (folder / "unet").is_dir() else "transformer"
    config = json.loads((folder / part / "config.json").read_text())
    network = DiffusersNetwork(config["_class_name"], config, str(folder), part)
    x = drawn(B, network.channels, *((3,) if "Wan" in network.class_name else ()), 8, 8)
    return network, x, torch.tensor([310.0, 730.0]), condition, directly


def test_it_is_the_model_called_directly(case):
    network, x, time, condition, directly = case
    with torch.no_grad():
        value, expected = network(x, time, **condition), directly(network.model, x, time, **condition)
    assert value.shape == x.shape and value.std() > 0.05
    assert torch.equal(value, expected)


def test_every_input_is_felt(case):
    network, x, time, condition, _ = case
    with torch.no_grad():
        value = network(x, time, **condition)
        assert not torch.allclose(network(x, time + 50, **condition), value)
        for name, given in condition.items():
            other = condition | {name: given.flip(0) if name in ("label", "mask") else given + 1}
            assert not torch.allclose(network(x, time, **other), value), name


def test_under_the_derivative(case):
    """Along the state and the time, as training asks; times of few digits are exact in float32."""
    network, x, _, condition, _ = case
    twin = DiffusersNetwork.around(type(network.model).from_config(network.model.config))
    twin.load_state_dict(network.state_dict())
    twin.double().eval()
    x, given = x.double(), {k: v.double() if v.is_floating_point() else v for k, v in condition.items()}
    time, h = torch.tensor([5.0, 300.0], dtype=torch.float64), 2**-7

    def f(x, time):
        return twin(x, time, **given)

    dual._warn_once.cache_clear()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("error", message="no forward-mode rule")
        value, d = derivative.jvp(f, (x, time), (x.cos(), 1))
        expected = (f(x + h * x.cos(), time + h) - f(x - h * x.cos(), time - h)) / (2 * h)
        assert torch.allclose(value, f(x, time), atol=1e-10)
        assert (d - expected).norm() < 5e-3 * expected.norm()


def test_a_model_that_is_told_a_guidance_is_told_3_5_by_default(tmp_path):
    network = teacher(tiny.flux(tmp_path / "dev")).network
    x, time, given = drawn(B, 4, 8, 8), torch.tensor([310.0, 730.0]), {"text": TEXT, "pooled": drawn(B, 8)}
    assert torch.equal(network(x, time, **given), network(x, time, **given, guidance=torch.full((B,), 3.5)))
    other = teacher(tiny.flux(tmp_path / "schnell", guidance=False)).network
    with pytest.raises(ValueError, match="takes no condition 'guidance'; this model takes: text, pooled"):
        other(x, time, **given, guidance=torch.ones(B))
    with pytest.raises(
        ValueError, match=r"x of the shape \(B, 4, H, W\) with H a multiple of 2, W a multiple of 2, but"
    ):
        other(x[..., :7], time, **given)


def test_labels_are_not_dropped_in_training(tmp_path):
    """DiT's own embedding drops them at random: the data do that."""
    network = teacher(tiny.dit(tmp_path)).network.train()
    x, time, label = drawn(64, 4, 8, 8), torch.full((64,), 500.0), torch.arange(64) % 10
    assert torch.equal(network(x, time, label=label), network(x, time, label=label))


def test_it_is_rebuilt_from_its_description(case):
    network, x, time, condition, _ = case
    with torch.no_grad():
        again = describe.build(describe.describe(network)).eval()
        assert torch.equal(again(x, time, **condition), network(x, time, **condition))


def test_without_the_folder_the_description_holds_the_config(tmp_path):
    folder = tiny.ddpm_unet(tmp_path)
    network = DiffusersNetwork("UNet2DModel", {}, str(folder), "unet")
    around = DiffusersNetwork.around(network.model)
    for net in (network, around):
        forget_folder(torch.nn.Sequential(net))
        again = describe.build(describe.describe(net))
        assert not torch.equal(again.state_dict()["model.conv_in.weight"], net.model.conv_in.weight)
        again.load_state_dict(net.state_dict())
        x, time = torch.ones(1, 1, 8, 8), torch.ones(1)
        assert torch.allclose(again.eval()(x, time), net(x, time), atol=1e-6)
