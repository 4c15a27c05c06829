"""Layers of networks for the fuzz of forward mode (see `cases`)."""

import torch
import torch.nn.functional as F

LAYER_CASES = {}


def case(function):
    LAYER_CASES[function.__name__] = function
    return function


def image(r, channels=4, dims=2, size=5):
    return r(2, channels, *(r.number(size, size + 2) for _ in range(dims)))


@case
def linear(r):
    n, m = r.number(2, 4), r.number(2, 4)
    return r.choice(F.linear, lambda x, w, b: F.linear(x, weight=w, bias=b)), [r(*r.shape(0, 2), n), r(m, n), r(m)]


@case
def bilinear(r):
    return F.bilinear, [r(5, 2), r(5, 3), r(4, 2, 3), r(4)]


for _dims, _convolution, _transposed in (
    (1, F.conv1d, F.conv_transpose1d),
    (2, F.conv2d, F.conv_transpose2d),
    (3, F.conv3d, F.conv_transpose3d),
):

    def _conv(r, f=_convolution, dims=_dims):
        groups = r.choice(1, 2)
        options = r.choice({"padding": 1, "stride": 2}, {"padding": "same", "dilation": 2}, {})
        size = 3 if dims == 3 else 4
        inputs = [image(r, 4, dims, size), r(6, 4 // groups, *[2] * dims), r(6)]
        return (lambda x, w, b: f(x, w, b, groups=groups, **options)), inputs

    def _conv_transpose(r, f=_transposed, dims=_dims):
        groups = r.choice(1, 2)
        options = r.choice({"stride": 2, "output_padding": 1}, {"padding": 1, "dilation": 2}, {})
        inputs = [image(r, 4, dims, 3), r(4, 2, *[2] * dims), r(2 * groups)]
        return (lambda x, w, b: f(x, w, b, groups=groups, **options)), inputs

    LAYER_CASES[f"conv{_dims}d"] = _conv
    LAYER_CASES[f"conv_transpose{_dims}d"] = _conv_transpose


@case
def embedding(r):
    index = r.index(4, 3, 2)
    return (lambda w, x: F.embedding(index, w, padding_idx=1) * x), [r(4, 3), r(3)]


@case
def pads(r):
    mode = r.choice("constant", "reflect", "replicate", "circular")
    return (lambda x: F.pad(x, (1, 1, 2, 0), mode=mode) * F.pad(x, pad=(1, 1, 2, 0), value=2.0)), [image(r)]


@case
def pooling_1d(r):
    def program(x):
        return (
            F.max_pool1d(x, 2, ceil_mode=True),
            F.avg_pool1d(x, 2),
            F.adaptive_avg_pool1d(x, 2),
            F.adaptive_max_pool1d(x, 2),
            F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), 2),
            F.lp_pool1d(x, 2.0, 2),
        )

    return program, [image(r, dims=1)]


@case
def pooling_2d(r):
    def program(x):
        return (
            F.max_pool2d(x, 3, 2, 1),
            F.avg_pool2d(x, 2, count_include_pad=False, padding=1),
            F.adaptive_avg_pool2d(x, (2, 3)),
            F.adaptive_max_pool2d(x, 2),
            F.adaptive_max_pool2d(x, 2, return_indices=True)[0],
            torch.max_pool2d(x, 2),
            F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=x.shape[-2:]),
        )

    return program, [image(r)]


@case
def pooling_3d(r):
    def program(x):
        return (
            F.max_pool3d(x, 2, dilation=2),
            F.avg_pool3d(x, 2),
            F.adaptive_avg_pool3d(x, 2),
            F.adaptive_max_pool3d(x, 2),
            F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2),
            *F.max_pool3d_with_indices(x, 2),
            *F.adaptive_max_pool3d_with_indices(x, 2),
        )

    return program, [image(r, 2, 3, 4)]


@case
def pooling_with_indices(r):
    def program(x):
        row = x.flatten(2)
        return (
            *F.max_pool2d_with_indices(x, 2),
            *F.adaptive_max_pool2d_with_indices(x, 2),
            *F.max_pool1d_with_indices(row, 2),
            *F.adaptive_max_pool1d_with_indices(row, 2),
        )

    return program, [image(r)]


@case
def resampling(r):
    options = r.choice(
        {"mode": "nearest"},
        {"mode": "bilinear", "align_corners": True},
        {"mode": "bicubic"},
        {"mode": "area"},
        {"mode": "bilinear", "antialias": True},
    )

    def program(x):
        return (F.interpolate(x, size=(7, 4), **options), F.interpolate(x, scale_factor=2.0, mode="nearest-exact"))

    return program, [image(r)]


@case
def shuffles(r):
    def program(x):
        return (
            F.pixel_shuffle(x, 2),
            F.pixel_unshuffle(x, 2),
            F.channel_shuffle(x, 2),
            F.unfold(x, 2),
            F.fold(x.flatten(2), (4, 4), 1),
            F.affine_grid(x[:, 0, :2, :3], (2, 1, 3, 3), align_corners=False),
        )

    return program, [r(2, 4, 4, 4)]


@case
def layer_norm(r):
    n = r.number(3, 5)
    return (
        lambda x, w, b: (
            F.layer_norm(x, (n,), w, b),
            F.layer_norm(x, (n,), weight=w),
            F.layer_norm(x, x.shape[-2:], eps=0.1),
        )
    ), [r(2, 3, n), r(n), r(n)]


@case
def rms_norm(r):
    n = r.number(3, 5)
    return (lambda x, w: F.rms_norm(x, (n,), w, 1e-3) * F.rms_norm(x, normalized_shape=(n,))), [r(2, 3, n), r(n)]


@case
def group_norm(r):
    x = r.choice(r(2, 4, 3), image(r))
    return (lambda x, w, b: F.group_norm(x, r.choice(2), w, b) * F.group_norm(x, 4, eps=0.1)), [x, r(4), r(4)]


@case
def instance_norm(r):
    mean, variance = r(4), r.positive(r(4))

    def program(x, w, b):
        kept = F.instance_norm(x, mean.to(x.dtype), variance.to(x.dtype), w, b, use_input_stats=False)
        return kept * F.instance_norm(x, weight=w, bias=b) + F.instance_norm(x)

    return program, [r.choice(r(2, 4, 3), image(r)), r(4), r(4)]


@case
def batch_norm(r):
    mean, variance = r(4), r.positive(r(4))

    def program(x, w, b):
        kept = F.batch_norm(x, mean.to(x.dtype), variance.to(x.dtype), w, b)
        return kept * F.batch_norm(x, None, None, w, b, training=True) + F.batch_norm(
            x, mean.to(x.dtype, copy=True), variance.to(x.dtype, copy=True), training=True
        )

    return program, [r.choice(r(5, 4), r(2, 4, 3), image(r)), r(4), r(4)]


@case
def softmaxes(r):
    x = r.any(2)
    dim = r.dim(x)
    return (
        lambda x: (
            x.softmax(dim),
            F.log_softmax(x, dim=dim),
            F.softmin(x, dim),
            torch.softmax(x, dim, dtype=torch.float64),
        )
    ), [x]


@case
def gates_of_rows(r):
    shape = (2, 4, 3)
    return (lambda x, w: (F.glu(x, 1), F.prelu(x, w), F.prelu(x, w[:1]), torch.nn.functional.glu(x[:, :, :2]))), [
        r(*shape),
        r(4),
    ]


@case
def dropouts(r):
    def program(x):
        rows = x.flatten(2)
        return (
            F.dropout(x, 0.4),
            F.dropout(x, p=0.0),
            F.dropout2d(x, 0.4),
            F.dropout1d(rows, 0.4),
            F.dropout3d(x[..., None], 0.4),
            F.alpha_dropout(x, 0.4, True),
            F.feature_alpha_dropout(x, 0.3, True),
            F.rrelu(x, 0.1, 0.4, True),
        )

    return program, [image(r)]


@case
def attention(r):
    rows, columns, heads = r.number(2, 4), r.number(2, 4), r.choice(1, 2)
    options = r.choice({}, {"attn_mask": r(rows, columns)}, {"is_causal": True}, {"scale": 0.3}, {"enable_gqa": True})
    keys = (2, 1 if "enable_gqa" in options else heads, columns, 3)
    f = F.scaled_dot_product_attention
    return (lambda q, k, v: f(q, k, value=v, **options)), [r(2, heads, rows, 3), r(*keys), r(*keys)]
