"""The operations that forward mode has rules for: each a function of a source of random numbers that gives a program
and its floating-point inputs, any of which may move."""

import math

import torch
import torch.nn.functional as F

F64 = torch.float64


class Draw:
    """Shapes, numbers and choices of one seeded case."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def number(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, *options):
        return options[self.number(0, len(options) - 1)]

    def shape(self, least: int = 1, most: int = 3) -> tuple[int, ...]:
        return tuple(self.number(2, 4) for _ in range(self.number(least, most)))

    def __call__(self, *shape: int) -> torch.Tensor:
        """Both signs, away from kinks and poles at 0."""
        x = torch.randn(*shape, dtype=F64, generator=self.generator)
        return x + 0.1 * x.sign()

    def any(self, least: int = 1, most: int = 3) -> torch.Tensor:
        return self(*self.shape(least, most))

    def pair(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Two shapes that broadcast together."""
        shape = self.shape()
        other = tuple(self.choice(n, n, 1) for n in shape)[self.number(0, len(shape) - 1) :]
        pair = (self(*shape), self(*other))
        return self.choice(pair, pair[::-1])

    def positive(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs() + 0.2

    def unit(self, x: torch.Tensor) -> torch.Tensor:
        return 0.8 * torch.tanh(x)

    def dim(self, x: torch.Tensor) -> int:
        return self.number(-x.ndim, x.ndim - 1)

    def dims(self, x: torch.Tensor):
        return self.choice(self.dim(x), (0,), (0, -1) if x.ndim > 1 else (-1,), tuple(range(x.ndim)))

    def mask(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator) > 0.5

    def index(self, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=self.generator)

    def order(self, n: int) -> torch.Tensor:
        return torch.randperm(n, generator=self.generator)


CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def unary(names: str, functions=(torch, F, torch.Tensor), domain=lambda r, x: x) -> None:
    for name in names.split():
        f = next(getattr(module, name) for module in functions if hasattr(module, name))
        CASES[name] = lambda r, f=f: (f, [domain(r, r.any())])


unary("real atleast_1d atleast_2d atleast_3d sin cos sinc atan arctan sinh cosh tanh asinh arcsinh exp exp2 expm1")
unary("square reciprocal frac erf erfc digamma")
unary("sigmoid relu relu6 leaky_relu elu selu logsigmoid softplus mish softsign tanhshrink hardtanh")
unary("hardswish hardshrink softshrink abs absolute nan_to_num neg negative positive deg2rad rad2deg silu gelu")
unary("tan asin arcsin acos arccos atanh arctanh erfinv", domain=lambda r, x: r.unit(x))
unary("log log1p log2 log10 sqrt rsqrt lgamma", domain=lambda r, x: r.positive(x))
unary("acosh arccosh", domain=lambda r, x: 1 + r.positive(x))
unary("logit", domain=lambda r, x: 0.5 + 0.4 * r.unit(x))
unary("special_expit", (torch._C._special,))
unary("special_i0e special_i1e", (torch._C._special,), lambda r, x: r.positive(x) - 1)
unary("special_logit", (torch._C._special,), lambda r, x: 0.5 + 0.4 * r.unit(x))

for _name in "contiguous clone ravel flatten unbind cpu double resolve_conj conj trace".split():
    CASES[_name] = lambda r, name=_name: (lambda x: getattr(x, name)(), [r(3, 4) if name == "trace" else r.any()])

PROGRAMS_OF_ONE = {
    "log_sigmoid": lambda x: torch._C._nn.log_sigmoid(x),
    "parameters of gates": lambda x: (
        F.leaky_relu(x, 0.3) + F.elu(x, 0.7) + F.hardtanh(x, -0.4, 0.6) + F.hardshrink(x, 0.2)
        + F.softshrink(x, 0.2) + F.softplus(x, 2.0, 1.0) + F.threshold(x, 0.1, 2.0) + F.gelu(x, approximate="tanh")
    ),
    "rrelu": lambda x: F.rrelu(x, 0.1, 0.3),
    "relu in place": lambda x: F.relu(x + 0, True) + F.hardswish(x + 0, inplace=True) + F.elu(x + 0, 0.5, True),
    "clamp": lambda x: x.clamp(-0.5, 0.6) + torch.clip(x, min=0.05) + x.clamp_min(0.01) + torch.clamp_max(x, 0.3),
    "operators": lambda x: 2 + x - 3 / (x * 2) - (1 - x) / 4 + abs(-x) * +x,
    "comparisons": lambda x: x * (x > 0) + x * (x == x) + x * ~(x <= 1) + x * x.ne(1) + x * (1 > x) + x * (x < 2)
    + x * (torch.ones_like(x) < x),
    "powers of numbers": lambda x: x**2 + x**3 + x**-1 + x**0 + x.abs() ** 0.5 + x.pow(exponent=2) + 1.3**x,
    "modulo": lambda x: x % 0.7 + torch.remainder(x, 0.3) + torch.fmod(x, 0.3),
    "no derivative": lambda x: (
        x * torch.ones_like(x) + x.round() + x * x.sign() + x * x.sgn() + x.floor() * x + x.ceil() + x.trunc() + x.fix()
        + x * torch.zeros_like(x)
        + x * torch.full_like(x, 2.0) + x * x.new_zeros(1) + x * x.new_ones(1) * x.new_full((1,), 2.0)
        + x * x.new_tensor([2.0]) + 0 * torch.nan_to_num(torch.empty_like(x)) + 0 * x.new_empty(1).nan_to_num()
        + 0 * torch.rand_like(x) + 0 * torch.randn_like(x) + 0 * torch.bernoulli(x.sigmoid())
    ),
    "questions": lambda x: x * (
        x.size(0) + x.dim() + x.ndimension() + x.numel() + x.nelement() + x.stride(0) * 0 + x.element_size()
        + x.is_floating_point() + x.is_complex() + 0 * x.is_contiguous() + x.detach().sum()
        + 0 * x.sum().item() + len(x.tolist()) + x.isnan().sum() + x.isinf().sum() + x.isfinite().sum()
        + x.argmax() + x.argmin() + x.flatten().argsort()[0]
        + torch.allclose(x, x) + torch.isclose(x, x).sum() + torch.equal(x, x) + (x > 0).all() + x.any() + x.all()
        + torch.eq(x, x) + torch.lt(x, 0) + torch.le(x, 0) + torch.gt(x, 0) + torch.ge(x, 0)
        + torch.bucketize(x, torch.arange(3.0, dtype=F64)) + torch.searchsorted(torch.arange(3.0, dtype=F64), x)
        + torch.count_nonzero(x) + len(x.nonzero()) + x.logical_not() + torch.logical_and(x, x) + torch.logical_or(x, x)
        + torch.signbit(x) + (torch.result_type(x, 1.0) == F64) + x.get_device() + int(x.sum() * 0) + float(x.sum() * 0)
        + (9.0 in x) + x.is_cuda + x.is_leaf
    ),
    "like another": lambda x: x.reshape(-1).reshape_as(x) * x.view(-1).view_as(x) * x.type_as(x).to(x).type(F64),
    "halves": lambda x: (x.float() + x.half().float() + x.bfloat16().float()).to(F64),
    "shapes of plain tensors": lambda x: torch.ones(1, dtype=F64).expand_as(x) * x,
    "roll, flip": lambda x: x.roll(1, 0) + x.flip(0) + torch.flipud(x) + torch.roll(x, 2),
    "nansum": lambda x: torch.nansum(torch.where(x > 0.9, math.nan, x), 0),
    "nanmean": lambda x: torch.nanmean(torch.where(x > 0.9, math.nan, x)),
    "repeats": lambda x: x.repeat(2, *[1] * x.ndim) * x.tile(2, *[1] * x.ndim),
    "split": lambda x: [a.sin() for a in (*x.split(1), *torch.split(x, [1, x.shape[0] - 1]), *x.chunk(2))],
    "more splits": lambda x: (*x.tensor_split(2), *torch.hsplit(x, 1), *x.split_with_sizes([1, x.shape[0] - 1])),
    "unary plus": lambda x: +x,
    "is the sum": lambda x: sum(x.unbind(0)) + sum(iter(x)),
    "norms": lambda x: x.norm() + torch.norm(x, 3) + torch.norm(x, p="fro", dim=0) + torch.linalg.norm(x),
    "dropout off": lambda x: F.dropout(x, 0.5, False) + F.alpha_dropout(x, 0.5) + F.feature_alpha_dropout(x, 0.5),
    "diff": lambda x: torch.diff(x, dim=0) + torch.diff(x, prepend=x[..., :1]).sum(),
    "complex": lambda x: (torch.complex(x, x.sin()) * torch.polar(x.exp(), x)).abs() + torch.complex(x, 2 * x).imag,
    "complex conjugates": lambda x: torch.complex(x, x.cos()).conj().resolve_conj().real.abs(),
}  # fmt: skip
CASES |= {name: (lambda r, f=f: (f, [r.any()])) for name, f in PROGRAMS_OF_ONE.items()}


@case
def whole_quotients(r):
    """Whose second program is what torch can differentiate."""

    def whole(a, b):
        return torch.div(a, torch.as_tensor(b), rounding_mode="floor").detach()

    def program(x):
        wholes = x // 0.5, 2 // x, torch.floor_divide(x, 0.3), torch.heaviside(x, x.cos())
        return 3.0 % x, *(whole.detach() * x for whole in wholes)

    return program, [r.any()], lambda x: (
        3 - whole(3.0, x) * x, whole(x, 0.5) * x, whole(2, x) * x, whole(x, 0.3) * x, (x > 0) * x
    )  # fmt: skip


@case
def gates_in_full_precision(r):
    """Whose derivative in torch has the digits of float32."""

    def program(x):
        return (
            torch.where(x > 0, x, 0.7 * torch.expm1(x / 0.7)),
            torch.where(x > 0, x, torch.expm1(x)),
            (x / 6 + 0.5).clamp(0, 1),
        )

    return (lambda x: (F.celu(x, 0.7), F.celu(x), F.hardsigmoid(x))), [r.any()], program


PROGRAMS_OF_TWO = {
    "add": lambda a, b: a + b + torch.add(a, other=b, alpha=0.3) + a.add(b),
    "sub": lambda a, b: a - b + torch.sub(a, b, alpha=0.3) + torch.subtract(a, b) + torch.rsub(a, b, alpha=2),
    "mul": lambda a, b: a * b * torch.mul(a, other=b) * torch.multiply(a, b),
    "div": lambda a, b: a / b + torch.div(a, other=b) + torch.divide(a, b) + torch.true_divide(a, b),
    "rounded div": lambda a, b: a * torch.div(a, b, rounding_mode="floor") + b,
    "pow": lambda a, b: a.abs() ** b + torch.pow(a.abs(), b) + torch.float_power(a.abs(), b),
    "atan2": lambda a, b: torch.atan2(a, b) + torch.arctan2(b, a),
    "hypot": torch.hypot,
    "logaddexp": torch.logaddexp,
    "logaddexp2": torch.logaddexp2,
    "remainder": lambda a, b: torch.remainder(a, b) + a % b,
    "fmod": torch.fmod,
    "xlogy": lambda a, b: torch.xlogy(a, b.abs()) + torch.special.xlogy(b, a.abs()),
    "copysign": torch.copysign,
    "maximum": lambda a, b: torch.maximum(a, b) * torch.minimum(a, other=b),
    "fmax": lambda a, b: torch.fmax(a, b) * torch.fmin(a, b) + torch.max(a, b) * torch.min(a, other=b),
    "where": lambda a, b: torch.where(a > b, a, b.sin()) + torch.where(a > 0, 2.0, b) + a.where(b > 0, b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.3) + torch.lerp(a, end=b, weight=a * b),
    "addcmul": lambda a, b: torch.addcmul(a, b, a, value=0.5) + torch.addcdiv(a, tensor1=a, tensor2=b, value=0.5),
    "clamp by tensors": lambda a, b: torch.clamp(a, min=b) + torch.clamp(a, b, b + 0.5) + a.clamp(max=b) + b.clamp(a),
    "masked_fill": lambda a, b: a.masked_fill(b > 0, 0.7) + torch.masked_fill(b, a > 0, b.sum()),
    "broadcast_tensors": lambda a, b: torch.broadcast_tensors(a, b),
    "kron": lambda a, b: torch.kron(a, b),
    "meshgrid": lambda a, b: torch.meshgrid(a.flatten(), b.flatten(), indexing="ij"),
    "ger": lambda a, b: torch.ger(a.flatten(), b.flatten()) + torch.outer(a.flatten(), b.flatten()),
    "block_diag": lambda a, b: torch.block_diag(a.flatten(), b.reshape(1, -1)),
}  # fmt: skip
CASES |= {name: (lambda r, f=f: (f, list(r.pair()))) for name, f in PROGRAMS_OF_TWO.items()}
