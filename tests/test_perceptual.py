"""LPIPS without its weights, which cannot be had everywhere."""

import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from flowmaps.perceptual import lpips


def images(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, generator=g, dtype=torch.float64) - 1


class Squares(nn.Module):
    """In the place of LPIPS' network: it answers (B, 1, 1, 1), and remembers what it was shown."""

    def __init__(self, **options):
        super().__init__()
        self.weight, self.options, self.seen = nn.Parameter(torch.ones(1)), options, []

    def forward(self, a, b):
        self.seen.append((a, b))
        return self.weight * (a - b).square().mean((1, 2, 3), keepdim=True)


@pytest.fixture
def torchmetrics(monkeypatch):
    """torchmetrics with that network, and a torchvision."""
    made = []

    def metric(net_type):
        made.append(net_type)
        if net_type == "alex":
            raise ConnectionError("no route to host")
        return types.SimpleNamespace(net=Squares())

    module = types.ModuleType("torchmetrics.image.lpip")
    module.LearnedPerceptualImagePatchSimilarity = metric
    for name in ("torchvision", "torchmetrics", "torchmetrics.image"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def test_lpips_is_given_colour_images_of_its_size_and_answers_for_each(torchmetrics):
    for size, shape in ((None, (5, 1, 8, 8)), (8, (5, 3, 8, 8)), (16, (1, 3, 8, 8)), (4, (5, 1, 8, 8))):
        compare = lpips("vgg", size=size)
        a, b = images(*shape).requires_grad_(), images(*shape, seed=1)
        distance = compare(a, b)
        assert distance.shape == (len(a), 1) and distance.dtype == torch.float64
        if size in (None, 8):
            torch.testing.assert_close(distance[:, 0], (a - b).square().mean((1, 2, 3)), rtol=1e-5, atol=1e-7)
        distance.sum().backward()
        assert a.grad.any()
    assert torchmetrics == ["vgg"] * 4


def test_lpips_sees_each_image_in_its_own_range_and_size(torchmetrics):
    """A constant image keeps its value, outside [-1, 1] too, as a map in training makes them."""
    a, b = torch.full((2, 1, 8, 8), 1.5), torch.full((2, 1, 8, 8), -0.5)
    torch.testing.assert_close(lpips(size=20)(a, b), torch.full((2, 1), 4.0))


def test_lpips_refuses_other_networks_and_channels(torchmetrics):
    with pytest.raises(ValueError, match="vgg, alex or squeeze, got 'resnet'"):
        lpips("resnet")
    with pytest.raises(ValueError, match="got 2 channels"):
        lpips()(images(4, 2, 8, 8), images(4, 2, 8, 8))


@pytest.mark.parametrize("shapes", [((4, 2), (4, 2)), ((4, 3, 8), (4, 3, 8)), ((4, 3, 8, 8), (4, 1, 8, 8))])
def test_only_images_of_one_shape(shapes, torchmetrics):
    with pytest.raises(ValueError, match="images of one shape"):
        lpips()(*map(torch.zeros, shapes))


def test_the_network_is_frozen_and_keeps_its_precision_under_autocast(torchmetrics):
    compare = lpips(size=None)
    a, b = images(4, 3, 8, 8).requires_grad_(), images(4, 3, 8, 8, seed=1)
    first = compare(a, b)
    first.sum().backward()
    assert a.grad.any() and torch.equal(compare(a.detach(), a.detach()), torch.zeros(4, 1, dtype=torch.float64))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compare(a, b), first)
    [network] = [cell.cell_contents for cell in compare.__closure__ if isinstance(cell.cell_contents, nn.Module)]
    assert not network.training and not any(weight.requires_grad for weight in network.parameters())


def test_lpips_without_its_weights_says_where_they_go(torchmetrics):
    with pytest.raises(
        RuntimeError, match=r"weights of alex could not be downloaded \(no route to host\).*checkpoints"
    ):
        lpips("alex")


@pytest.mark.parametrize("missing", ["torchvision", "torchmetrics"])
def test_lpips_says_what_to_install(missing, torchmetrics, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "torchmetrics":
        monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(ImportError, match=r"pip install .\.\[perceptual\]."):
        lpips()


@pytest.mark.slow
def test_importing_it_needs_torch_alone():
    code = "import sys, flowmaps.perceptual; sys.exit(any(m in sys.modules for m in ('torchmetrics', 'torchvision')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
