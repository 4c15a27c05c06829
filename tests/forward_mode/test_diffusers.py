"""Models of diffusers, unchanged, under the derivative: against torch.func.jvp, or central differences."""

import warnings

import pytest
import torch
from diffusers import (
    DiTTransformer2DModel,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    UNet2DModel,
    WanTransformer3DModel,
)

from flowmaps import derivative
from flowmaps.forward_mode import dual

F64 = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def unet():
    net = UNet2DModel(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
    )  # fmt: skip
    return net, draw(2, 2, 8, 8), lambda x, t: net(x, 1000 * t).sample


def unet_with_a_condition():
    net = UNet2DConditionModel(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=6, attention_head_dim=2,
    )  # fmt: skip
    return net, draw(2, 2, 8, 8), lambda x, t: net(x, 1000 * t, encoder_hidden_states=draw(2, 3, 6, seed=1)).sample


def dit():
    net = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=2, num_layers=2, sample_size=8, norm_num_groups=2,
        num_embeds_ada_norm=10,
    )  # fmt: skip
    return net, draw(2, 2, 8, 8), lambda x, t: net(x, 10 * t, class_labels=torch.tensor([1, 2])).sample


def pixart():
    net = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=2, out_channels=2, num_layers=2, sample_size=8,
        cross_attention_dim=8, caption_channels=6, norm_num_groups=2,
    )  # fmt: skip
    return net, draw(2, 2, 8, 8), lambda x, t: net(
        x, encoder_hidden_states=draw(2, 3, 6, seed=1), timestep=1000 * t,
        encoder_attention_mask=torch.tensor([[1, 1, 0], [1, 1, 1]]),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample  # fmt: skip


def sd3():
    net = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=2, out_channels=2, num_layers=2, attention_head_dim=4,
        num_attention_heads=2, joint_attention_dim=6, caption_projection_dim=8, pooled_projection_dim=5,
        pos_embed_max_size=8, qk_norm="rms_norm", dual_attention_layers=(0,),
    )  # fmt: skip
    return (
        net,
        draw(2, 2, 8, 8),
        lambda x, t: (
            net(
                x, encoder_hidden_states=draw(2, 3, 6, seed=1), pooled_projections=draw(2, 5, seed=2), timestep=1000 * t
            ).sample
        ),
    )


def flux():
    net = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=6, pooled_projection_dim=5, axes_dims_rope=(2, 2, 4), guidance_embeds=True,
    )  # fmt: skip
    return net, draw(2, 9, 4), lambda x, t: net(
        x, encoder_hidden_states=draw(2, 3, 6, seed=1), pooled_projections=draw(2, 5, seed=2), timestep=t,
        img_ids=torch.cartesian_prod(*torch.arange(3.0).expand(2, 3), torch.zeros(1)), txt_ids=torch.zeros(3, 3),
        guidance=torch.full((2,), 3.5, dtype=F64),
    ).sample  # fmt: skip


def wan():
    net = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=2, out_channels=2, text_dim=6,
        freq_dim=8, ffn_dim=8, num_layers=1, rope_max_seq_len=16,
    )  # fmt: skip
    return net, draw(2, 2, 2, 4, 4), lambda x, t: net(x, 1000 * t, draw(2, 3, 6, seed=1)).sample


MODELS = [unet, unet_with_a_condition, dit, pixart, sd3, flux, wan]


def made(model):
    """Its parameters, its function of (x, t) in float64, x and t; all weights random, the gates too."""
    torch.manual_seed(0)
    net, x, f = model()
    net.double().eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return list(net.parameters()), f, x, torch.tensor([0.31, 0.73], dtype=F64)


def differences(f, h=1e-4):
    """f'(0) to fourth order."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def close(a, b, tolerance):
    assert (a - b).norm() < tolerance * b.norm()


@pytest.fixture(autouse=True)
def _no_silent_fallback():
    dual._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no forward-mode rule")
        yield


@pytest.mark.parametrize("model", [unet, unet_with_a_condition, dit, pixart])
def test_derivative_along_the_state(model):
    """Models that take their times alone to float32, in which differences have no digits."""
    _, f, x, t = made(model)
    expected = differences(lambda h: f(x + h * x.cos(), t))
    for mode in (derivative.jvp, derivative.detached):
        value, d = mode(f, (x, t), (x.cos(), 0))
        close(value, f(x, t), 1e-10)
        close(d, expected, 1e-7)


@pytest.mark.parametrize("model", [model for model in MODELS if model is not unet])
def test_derivative_along_the_state_and_the_time(model):
    _, f, x, t = made(model)
    expected = derivative.functorch(f, (x, t), (x.cos(), 1))
    tolerance = 1e-7 if model is wan else 1e-12  # it takes its norms to float32
    for mode in (derivative.jvp, derivative.detached):
        value, d = mode(f, (x, t), (x.cos(), 1))
        close(value, expected[0], tolerance)
        close(d, expected[1], tolerance)


def test_derivative_along_the_time_of_a_model_that_torch_has_none_of():
    """torch's forward mode fails in the views of this model's attention; times of few digits are exact in float32."""
    _, f, x, _ = made(unet)
    t, h = torch.tensor([5.0, 300.0], dtype=F64) / 1000, 2**-7 / 1000
    _, d = derivative.jvp(f, (x, t), (0, 1))
    close(d, (f(x, t + h) - f(x, t - h)) / (2 * h), 1e-3)


@pytest.mark.parametrize("model", [unet, dit, pixart])
def test_gradient_through_the_derivative(model):
    parameters, f, x, t = made(model)
    weights, steps = draw(*x.shape, seed=4), [torch.randn_like(p) for p in parameters]

    def paired():
        d = derivative.jvp(f, (x, t), (x.cos(), 1))[1]
        return (d[:, : x.shape[1]] * weights).mean()

    def moved(h):
        with torch.no_grad():
            for p, step in zip(parameters, steps, strict=True):
                p += h * step
            result = paired()
            for p, step in zip(parameters, steps, strict=True):
                p -= h * step
        return result

    gradients = torch.autograd.grad(paired(), parameters, allow_unused=True, materialize_grads=True)
    slope = sum((g * step).sum() for g, step in zip(gradients, steps, strict=True))
    close(slope, differences(moved), 1e-6)
