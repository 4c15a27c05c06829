"""Tiny pipelines with random weights, saved in the format of diffusers: what the integrations are tested on.

Each function writes one pipeline to a folder and returns the folder. The same call writes the same weights. Latents
are (4, 8, 8) of images (3, 16, 16), and (4, 3, 8, 8) of videos (3, 9, 64, 64). Every weight is random, also those that
start from zero, so that no output is zero for the wrong reason.
"""

from pathlib import Path
from string import ascii_lowercase, digits

import diffusers
import torch
import transformers

WIDTH = 8
"""Of a token in every text encoder."""
LENGTH = 12
"""Tokens in a CLIP prompt."""


def ddpm_unet(folder, classes=None, channels=1, scheduler=None, variance=False):
    """UNet2DModel; with classes, class-conditional with one embedding more, the last, for no class.

    With variance it has learned variance: twice the channels out.
    """
    unet = _unet(channels, classes, variance)
    scheduler = scheduler or diffusers.DDPMScheduler(clip_sample=False)
    return _saved(diffusers.DDPMPipeline(unet, scheduler), folder)


def ldm(folder, quantised=True):
    """UNet2DModel on latents (4, 8, 8), whose autoencoder is called `vqvae`: a VQModel, or an AutoencoderKL."""
    unet, vae = _unet(4), _vq() if quantised else _vae(scaling_factor=0.3)
    return _saved(
        diffusers.LDMPipeline(vqvae=vae, unet=unet, scheduler=diffusers.DDIMScheduler(clip_sample=False)), folder
    )


def _unet(channels, classes=None, variance=False):
    _seed()
    unet = diffusers.UNet2DModel(
        sample_size=8, in_channels=channels, out_channels=channels * (2 if variance else 1),
        block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=4,
        num_class_embeds=None if classes is None else classes + 1,
    )  # fmt: skip
    return _random(unet)


def stable_diffusion(folder, scheduler=None):
    _seed()
    return _saved(
        diffusers.StableDiffusionPipeline(
            vae=_vae(scaling_factor=0.18215), unet=_text_unet(), scheduler=scheduler or _scaled_linear(),
            text_encoder=_clip(), tokenizer=_clip_tokenizer(), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        ),
        folder,
    )  # fmt: skip


def sdxl(folder, scheduler=None):
    _seed()
    unet = _text_unet(
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=WIDTH + 6 * 4,
    )  # fmt: skip
    return _saved(
        diffusers.StableDiffusionXLPipeline(
            vae=_vae(scaling_factor=0.13025), unet=unet, scheduler=scheduler or _scaled_linear(),
            text_encoder=_clip(), tokenizer=_clip_tokenizer(), add_watermarker=False,
            text_encoder_2=_clip(projected=True), tokenizer_2=_clip_tokenizer(),
        ),
        folder,
    )  # fmt: skip


def dit(folder, classes=10, scheduler=None):
    """DiTTransformer2DModel with learned variance: twice the channels out."""
    _seed()
    transformer = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        norm_num_groups=2, num_embeds_ada_norm=classes,
    )  # fmt: skip
    scheduler = scheduler or diffusers.DDIMScheduler(clip_sample=False)
    vae = _vae(scaling_factor=0.18215)
    names = {i: f"class {i}" for i in range(classes)}
    return _saved(diffusers.DiTPipeline(_random(transformer), vae, scheduler, id2label=names), folder)


def sd3(folder, scheduler=None):
    _seed()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=4,
        num_attention_heads=2, joint_attention_dim=2 * WIDTH, caption_projection_dim=8,
        pooled_projection_dim=2 * WIDTH, pos_embed_max_size=8, qk_norm="rms_norm", dual_attention_layers=(0,),
    )  # fmt: skip
    return _saved(
        diffusers.StableDiffusion3Pipeline(
            transformer=_random(transformer), vae=_vae(scaling_factor=1.5305, shift_factor=0.0609),
            scheduler=scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
            text_encoder=_clip(projected=True), tokenizer=_clip_tokenizer(),
            text_encoder_2=_clip(projected=True), tokenizer_2=_clip_tokenizer(),
            text_encoder_3=_t5(2 * WIDTH), tokenizer_3=_t5_tokenizer(),
        ),
        folder,
    )  # fmt: skip


def flux(folder, guidance=True, scheduler=None):
    """FLUX.1-dev, or FLUX.1-schnell without the guidance input."""
    _seed()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(2, 2, 4), guidance_embeds=guidance,
    )  # fmt: skip
    dev = {"shift": 3.0, "use_dynamic_shifting": True, "base_image_seq_len": 256, "max_image_seq_len": 4096}
    return _saved(
        diffusers.FluxPipeline(
            transformer=_random(transformer), vae=_vae(scaling_factor=0.3611, shift_factor=0.1159),
            scheduler=scheduler or diffusers.FlowMatchEulerDiscreteScheduler(**(dev if guidance else {})),
            text_encoder=_clip(), tokenizer=_clip_tokenizer(), text_encoder_2=_t5(), tokenizer_2=_t5_tokenizer(),
        ),
        folder,
    )  # fmt: skip


def pixart(folder, sizes=False, scheduler=None):
    """PixArtTransformer2DModel with learned variance; with `sizes`, told the size of the image as the 1024 model."""
    _seed()
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=6, in_channels=4, out_channels=8, num_layers=2, sample_size=8,
        cross_attention_dim=12, caption_channels=WIDTH, norm_num_groups=2, use_additional_conditions=sizes,
    )  # fmt: skip
    return _saved(
        diffusers.PixArtAlphaPipeline(
            transformer=_random(transformer), vae=_vae(scaling_factor=0.13025), text_encoder=_t5(),
            tokenizer=_t5_tokenizer(), scheduler=scheduler or diffusers.DDIMScheduler(clip_sample=False),
        ),
        folder,
    )  # fmt: skip


def wan(folder, scheduler=None):
    _seed()
    transformer = diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4,
        text_dim=WIDTH, freq_dim=16, ffn_dim=16, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.1, -0.2, 0.3, 0.0],
        latents_std=[1.5, 2.0, 0.8, 1.2],
    )  # fmt: skip
    config = transformers.UMT5Config(**_t5_sizes(WIDTH))
    return _saved(
        diffusers.WanPipeline(
            transformer=_random(transformer), vae=_random(vae), tokenizer=_t5_tokenizer(),
            text_encoder=_random(transformers.UMT5EncoderModel(config)),
            scheduler=scheduler or diffusers.FlowMatchEulerDiscreteScheduler(shift=5.0),
        ),
        folder,
    )  # fmt: skip


PIPELINES = [ddpm_unet, stable_diffusion, sdxl, dit, sd3, flux, pixart, wan]


def _seed():
    torch.manual_seed(0)


def _saved(pipeline, folder):
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(folder)
    return Path(folder)


def _random(module, scale=0.2):
    """Every weight moved by noise: gates and last layers start from zero."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module.eval()


def _scaled_linear():
    """The schedule of Stable Diffusion, on DDIM."""
    return diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip


def _text_unet(cross_attention_dim=WIDTH, **more):
    return _random(
        diffusers.UNet2DConditionModel(
            sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            norm_num_groups=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=cross_attention_dim,
            attention_head_dim=2, **more,
        )
    )  # fmt: skip


def _vae(**config):
    return _random(
        diffusers.AutoencoderKL(
            sample_size=16, latent_channels=4, block_out_channels=(4, 8), norm_num_groups=2,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, **config,
        ),
        scale=0.05,
    )  # fmt: skip


def _vq():
    return _random(
        diffusers.VQModel(
            sample_size=16, latent_channels=3, vq_embed_dim=4, num_vq_embeddings=64, block_out_channels=(4, 8),
            norm_num_groups=2, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            scaling_factor=0.5,
        ),
        scale=0.05,
    )  # fmt: skip


def _clip(projected=False):
    config = transformers.CLIPTextConfig(
        vocab_size=len(_clip_vocabulary()), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=LENGTH, projection_dim=WIDTH, bos_token_id=0, eos_token_id=1,
        pad_token_id=1,
    )  # fmt: skip
    return _random(
        transformers.CLIPTextModelWithProjection(config) if projected else transformers.CLIPTextModel(config)
    )


def _clip_vocabulary():
    letters = ascii_lowercase + digits + ".,!-"
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    return {piece: i for i, piece in enumerate(pieces)}


def _clip_tokenizer():
    return transformers.CLIPTokenizer(vocab=_clip_vocabulary(), merges=[], model_max_length=LENGTH)


def _t5_sizes(width):
    return {
        "vocab_size": len(_t5_vocabulary()), "d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2,
        "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
    }  # fmt: skip


def _t5(width=WIDTH):
    return _random(transformers.T5EncoderModel(transformers.T5Config(**_t5_sizes(width))))


def _t5_vocabulary():
    return [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)] + [
        (letter, -3.0) for letter in ascii_lowercase + digits + ".,!-"
    ]


def _t5_tokenizer():
    return transformers.T5Tokenizer(vocab=_t5_vocabulary(), extra_ids=0, model_max_length=LENGTH)
