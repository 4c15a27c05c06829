"""DiT and U-Net: patches, sizes, positions, levels."""

import pytest
import torch

from flowmaps import networks as nets
from flowmaps.networks.dit import image, patches, sinusoidal_positions
from flowmaps.networks.unet import group_norm


def test_patches_are_squares_of_the_image_and_come_back():
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    cut = patches(x, 2)
    assert cut.shape == (2, 6, 12)
    assert torch.equal(cut[1, 4], x[1, :, 2:4, 2:4].flatten())
    assert torch.equal(image(cut, (3, 4, 6), 2), x)


def test_positions_are_distinct_and_of_unit_mean_square_up_to_sine_and_cosine():
    positions = sinusoidal_positions(4, 6, 32)[0]
    assert positions.shape == (24, 32)
    torch.testing.assert_close(positions.square().sum(dim=1), torch.full((24,), 16.0))
    assert (torch.cdist(positions, positions) + torch.eye(24)).min() > 0.1


@pytest.mark.parametrize(
    ("preset", "width", "depth", "heads", "millions"),
    [
        (nets.DiT.tiny, 192, 6, 3, 4.3),
        (nets.DiT.small, 384, 12, 6, 33),
        (nets.DiT.base, 768, 12, 12, 130),
        (nets.DiT.large, 1024, 24, 16, 457),
        (nets.DiT.extra_large, 1152, 28, 16, 675),
    ],
)
def test_presets(preset, width, depth, heads, millions):
    with torch.device("meta"):
        network = preset((4, 32, 32), classes=1000)
    parameters = sum(weight.numel() for weight in network.parameters())
    assert (network.input.out_features, len(network.blocks), network.blocks[0].attention.heads) == (width, depth, heads)
    assert parameters == pytest.approx(millions * 1e6, rel=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 3}, "multiples of the patch size 3, got 8 x 8"),
        ({"width": 18, "heads": 3}, "multiple of 4, got 18"),
        ({"width": 16, "heads": 3}, "multiple of the number of heads, got width 16 and 3 heads"),
    ],
)
def test_dit_refuses_sizes_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        nets.DiT((1, 8, 8), depth=1, **options)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 8), (3, 32, 32)])
def test_unet_keeps_the_shape(shape):
    network = nets.UNet(shape, width=8, blocks=1, attention=(shape[1] // 4,))
    x = torch.randn(2, *shape)
    assert network(x, *torch.rand(2, 2)).shape == x.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"multipliers": (1, 2, 2, 2, 2)}, "5 levels need sides that are multiples of 16, got 8 x 8"),
        ({"attention": (16,)}, r"heights \[8, 4, 2\] of the levels, got \[16\]"),
    ],
)
def test_unet_refuses_levels_that_do_not_exist(options, message):
    with pytest.raises(ValueError, match=message):
        nets.UNet((1, 8, 8), width=8, **options)


def test_unet_has_attention_where_it_was_asked_for():
    network = nets.UNet((1, 16, 16), width=8, multipliers=(1, 2), blocks=2, attention=(8,))
    heights = []
    x = torch.randn(1, 1, 16, 16)
    for layer in network.modules():
        if type(layer).__name__ == "ImageAttention":
            layer.register_forward_hook(lambda module, args, out: heights.append(out.shape[2]))
    network(x, torch.rand(1), torch.rand(1))
    assert heights == [8] * (2 + 1 + 3)


@pytest.mark.parametrize(("channels", "groups"), [(8, 2), (64, 16), (128, 32), (192, 32), (6, 1), (2, 1)])
def test_groups_have_at_least_four_channels(channels, groups):
    assert group_norm(channels).num_groups == groups
