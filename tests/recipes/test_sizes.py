"""Sizes of the network and of the batch for images, by size, device and length of training."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import flowmaps as fm
from flowmaps.experiments import build, sizing
from flowmaps.recipes.sizes import HOURS, LADDER, LEAST_STEPS, PASSES, RATES, Sizes, sizes_for


def images(*shape, n=4):
    return fm.data.as_data(torch.rand(n, *shape) * 2 - 1)


@pytest.mark.parametrize("side", [24, 64])
@pytest.mark.parametrize("sizes", [Sizes(64, 2, 1), Sizes(32, 1, 1)])
def test_the_operations_are_the_counted_ones(side, sizes):
    with FakeTensorMode(), FlopCounterMode(display=False) as counted:
        network = fm.networks.UNet((3, side, side), sizes.width, blocks=sizes.depth)
        network(torch.zeros(1, 3, side, side), torch.zeros(1), torch.zeros(1))
    assert sizes.operations((3, side, side)) == pytest.approx(PASSES * counted.get_total_flops(), rel=0.12)


@pytest.mark.parametrize("shape", [(3, 24, 24), (1, 64, 48), (3, 40, 40)])
def test_training_on_a_cpu_takes_an_hour_at_most(shape):
    sizes = sizes_for(images(*shape), "cpu", steps=5000)
    assert 5000 * sizes.operations(shape) <= 3600 * HOURS["cpu"] * RATES["cpu"]
    assert sizes in LADDER and sizes.batch_size >= 16


def test_less_time_larger_images_and_slower_devices_get_smaller_sizes():
    def cost(shape=(3, 24, 24), device="cpu", **length):
        return sizes_for(images(*shape), device, **length).operations((3, 24, 24))

    assert cost(steps=5000) < cost(steps=100) == Sizes().operations((3, 24, 24))
    assert cost((3, 48, 48), steps=5000) < cost(steps=5000)
    assert cost(seconds=120) < cost(seconds=3600)
    assert cost(device="cuda", steps=5000) == Sizes().operations((3, 24, 24))
    assert LEAST_STEPS * cost(seconds=600) <= 600 * RATES["cpu"]


def test_given_sizes_are_kept():
    sizes = sizes_for(images(3, 24, 24), "cpu", steps=5000, width=64)
    assert sizes.width == 64 and sizes.batch_size < 256
    assert sizes_for(images(3, 24, 24), "cpu", steps=5000, width=8, depth=3, batch_size=7) == Sizes(8, 3, 7)


GIVEN = {"width": None, "depth": None, "batch_size": None}


def sized(data, said, *, network="auto", before=None, **given):
    return sizing.sized(data, GIVEN | given, network=network, steps=5000, seconds=None, before=before, say=said.append)


def test_only_a_network_that_is_chosen_gets_sizes(monkeypatch):
    monkeypatch.setattr(sizing, "device", lambda *_: "cpu")
    usual, said = {"width": None, "depth": None, "batch_size": 256}, []
    assert sized(fm.data.load("checkerboard"), said) == usual
    assert sized(images(1, 8, 8), said) == usual
    assert sized(images(3, 24, 24), said, network="unet") == usual
    assert not said
    found = sized(images(3, 24, 24), said)
    assert found["batch_size"] < 256 and f"`batch_size={found['batch_size']}`" in said[0] and "`width=64`" in said[0]
    assert sized(images(3, 24, 24), said, batch_size=7)["batch_size"] == 7


def test_on_a_gpu_the_sizes_stay(monkeypatch):
    monkeypatch.setattr(sizing, "device", lambda *_: "cuda")
    said = []
    assert sized(images(3, 24, 24), said) == {"width": None, "depth": None, "batch_size": 256} and not said


SMALL = {"steps": 2, "sample_every": 0, "trackers": (), "progress_bar": False}


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_sizes_on_another_device(tmp_path, monkeypatch):
    data = images(3, 20, 20, n=8)
    monkeypatch.setattr(sizing, "sizes_for", lambda *_, **__: Sizes(8, 1, 4))
    run = fm.experiments.train(data, method="meanflow", out=tmp_path / "run", **SMALL)
    network = sizing.inside(run.config["flow"]["network"])
    assert run.config["training"]["batch_size"] == 4 and network["arguments"]["width"] == 8
    monkeypatch.setattr(sizing, "sizes_for", lambda *_, **__: Sizes())
    again = fm.experiments.train(data, method="meanflow", out=tmp_path / "run", resume=True, **SMALL)
    assert again.steps == 0
    assert sizing.sizes_before(tmp_path / "run") == {"width": 8, "depth": 1, "batch_size": 4}


@pytest.mark.parametrize("sides", [(36, 36), (34, 36), (33, 35), (37, 41)])
@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_networks_fit_the_sides_of_the_images(kind, sides):
    network = build.make_network(kind, images(1, *sides), None, width=8, depth=1)
    x = torch.randn(1, 1, *sides)
    assert network(x, torch.ones(1), torch.zeros(1)).shape == x.shape


@pytest.mark.parametrize("shape", [(4, 4, 4), (16, 8, 6), (5, 3, 3)])
@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_latents_get_the_networks_of_images(kind, shape):
    data = fm.data.as_data(torch.randn(20, *shape))
    network = build.make_network(kind, data, None, width=8, depth=1)
    x = torch.randn(1, *shape)
    assert data.kind == "vectors" and network(x, torch.ones(1), torch.zeros(1)).shape == x.shape


def test_images_of_any_side_get_a_network():
    flow = fm.recipes.images(images(1, 33, 33), width=8, depth=1)
    assert flow.network.network.shape == (1, 33, 33)


@pytest.mark.parametrize("width", [8, 20, 64, 96, 100, 384, 768])
def test_the_heads_of_a_dit_follow_from_its_width(width):
    network = build.make_network("dit", images(1, 8, 8), None, width=width, depth=1)
    heads = network.blocks[0].attention.heads
    assert heads == 6 if width % 6 == 0 else width % heads == 0 and width // heads <= 64
