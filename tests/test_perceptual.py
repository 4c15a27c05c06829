"""Perceptual distances against their formula; LPIPS without its weights, which cannot be had everywhere."""

import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from flowmaps.perceptual import features_distance, lpips


def images(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(*shape, generator=g, dtype=torch.float64) - 1


class Pyramid(nn.Module):
    """Features of two sizes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 3, stride=2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        h = torch.relu(self.first(self.dropout(x)))
        return [h, torch.relu(self.second(h))]


def test_without_a_network_it_is_one_minus_the_cosine_between_pixels():
    a, b = images(4, 3, 5, 6), images(4, 3, 5, 6, seed=1)
    expected = (2 - 2 * torch.cosine_similarity(a, b, dim=1)).mean((1, 2))[:, None]
    torch.testing.assert_close(features_distance(lambda x: x, eps=0.0)(a, b), expected)


def test_layers_add_up_written_out():
    network = Pyramid().double().eval()
    a, b = images(4, 3, 9, 7), images(4, 3, 9, 7, seed=1)
    expected = torch.zeros(4, 1, dtype=torch.float64)
    for f, g in zip(network(a), network(b), strict=True):
        for i in range(4):
            places = f.shape[2] * f.shape[3]
            for y in range(f.shape[2]):
                for x in range(f.shape[3]):
                    u, v = f[i, :, y, x].detach(), g[i, :, y, x].detach()
                    difference = u / (u @ u + 1e-8).sqrt() - v / (v @ v + 1e-8).sqrt()
                    expected[i, 0] += difference @ difference / places
    distance = features_distance(network)(a, b)
    assert distance.shape == (4, 1)
    torch.testing.assert_close(distance, expected)


def test_it_is_a_distance():
    compare = features_distance(Pyramid().double())
    a, b = images(4, 3, 8, 8), images(4, 3, 8, 8, seed=1)
    assert (compare(a, b) > 0).all()
    assert torch.equal(compare(a, a), torch.zeros(4, 1, dtype=torch.float64))
    torch.testing.assert_close(compare(a, b), compare(b, a))
    nearer = a + 0.1 * (b - a)
    assert (compare(a, nearer) < compare(a, b)).all()


def test_its_gradient_in_the_first_image():
    compare = features_distance(nn.Conv2d(1, 4, 3).double())
    a, b = images(2, 1, 5, 5).requires_grad_(), images(2, 1, 5, 5, seed=1)
    assert torch.autograd.gradcheck(lambda a: compare(a, b), a)
    (gradient,) = torch.autograd.grad(compare(a, a.detach()).sum(), a)
    assert torch.equal(gradient, torch.zeros_like(a))  # equal images are its minimum


def test_the_extractor_is_a_frozen_copy_in_evaluation_mode():
    network = Pyramid()  # in float32 and training mode, its dropout at work
    compare = features_distance(network)
    a, b = images(4, 3, 8, 8).requires_grad_(), images(4, 3, 8, 8, seed=1)
    first = compare(a, b)
    assert first.dtype == torch.float64 and torch.equal(first, compare(a, b))
    first.sum().backward()
    assert a.grad.any() and all(weight.grad is None and weight.requires_grad for weight in network.parameters())
    assert network.training
    with torch.no_grad():
        network.first.weight.zero_()
    assert torch.equal(compare(a, b), first)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compare(a, b), first)


@pytest.mark.parametrize("shapes", [((4, 2), (4, 2)), ((4, 3, 8), (4, 3, 8)), ((4, 3, 8, 8), (4, 1, 8, 8))])
def test_only_images_of_one_shape(shapes):
    with pytest.raises(ValueError, match="images of one shape"):
        features_distance(lambda x: x)(*map(torch.zeros, shapes))


def test_features_have_places():
    with pytest.raises(ValueError, match=r"got shapes \[\(4, 192\)\]"):
        features_distance(nn.Flatten())(images(4, 3, 8, 8), images(4, 3, 8, 8))


# --- LPIPS ------------------------------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="images of one shape"):
        lpips()(images(4, 2), images(4, 2))


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
    with pytest.raises(ImportError, match=r"pip install flowmaps\[perceptual\]"):
        lpips()


def test_importing_it_needs_torch_alone():
    code = "import sys, flowmaps.perceptual; sys.exit(any(m in sys.modules for m in ('torchmetrics', 'torchvision')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
