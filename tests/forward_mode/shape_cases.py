"""Operations of shape, index, sum and order for the fuzz of forward mode (see `cases`)."""

import math

import torch

from tests.forward_mode.cases import Draw

SHAPE_CASES = {}


def of_one(name: str, least: int = 1, most: int = 3):
    """Enter a program that is drawn for one input: (r, x) -> result."""

    def enter(program):
        def make(r: Draw):
            seed = r.number(0, 10**6)
            return (lambda x: program(Draw(seed), x)), [r.any(least, most)]

        SHAPE_CASES[name] = make
        return program

    return enter


def of_several(function):
    SHAPE_CASES[function.__name__] = function
    return function


for _name, _program in {
    "permute": lambda r, x: x.permute(*reversed(range(x.ndim))) * torch.permute(x, tuple(reversed(range(x.ndim)))),
    "transposes": lambda r, x: x.transpose(0, -1).swapaxes(0, 1) * x.swapdims(-1, 0).movedim(0, 1).sum(0),
    "moveaxis": lambda r, x: x.moveaxis(0, -1) + x.T.mean() + x.mT.sum() + x.mH.sum() + x.adjoint().mean(),
    "squeeze": lambda r, x: x.unsqueeze(r.dim(x)).squeeze() + x[None].squeeze(0).unflatten(0, (1, -1)).flatten(0, 1),
    "expand": lambda r, x: x.expand(2, *x.shape) * x.broadcast_to(2, *x.shape) * torch.broadcast_to(x, x.shape),
    "views": lambda r, x: x.view(-1).reshape(x.shape) + torch.reshape(x, (-1,)).view(x.shape),
    "repeat_interleave": lambda r, x: x.repeat_interleave(2, r.dim(x)),
    "getitem": lambda r, x: x[r.index(x.shape[0], 5)].sin() * x[..., :1].sum() + x[1:, None].sum() * x[None, -1].mean(),
    "getitem of masks": lambda r, x: x[r.mask(*x.shape)].sum() + x.masked_select(r.mask(*x.shape)).square().sum(),
    "select": lambda r, x: (x.select(d := r.dim(x), 1), x.narrow(d, 0, 2), x.index_select(d, r.index(2, 3))),
    "gather": lambda r, x: x.gather(d := r.dim(x), i := r.index(2, *x.shape)) * x.take_along_dim(i, d) * x.take(i),
    "diagonal": lambda r, x: (x.diagonal(), torch.diag_embed(x), x.tril(), torch.triu(x, 1), x.rot90(), x.fliplr()),
    "roll": lambda r, x: x.roll((1, -1), (0, -1)) * x.flip((0, -1)) * x.tensor_split(1)[0] * x.vsplit(1)[0],
    "unfold": lambda r, x: x.unfold(r.dim(x), 2, 1),
    "sums": lambda r, x: (x.sum(d := r.dims(x), keepdim=r.choice(True, False)), x.mean(d), x.sum(), torch.mean(x)),
    "cumsum": lambda r, x: x.cumsum(r.dim(x)),
    "prod": lambda r, x: (x.prod(r.dim(x), r.choice(True, False)), x.prod(), torch.prod(torch.where(x > 0.8, 0, x), 0)),
    "var": lambda r, x: (
        x.var(d := r.dims(x), keepdim=(k := r.choice(True, False))),
        x.std(d, k),
        x.var(),
        torch.var(x, False),
        torch.std(x, d, correction=0),
        torch.var(x, dim=d, unbiased=False),
    ),
    "std_mean": lambda r, x: (*torch.var_mean(x, r.dims(x)), *torch.std_mean(x, dim=r.dim(x), keepdim=True)),
    "logsumexp": lambda r, x: x.logsumexp(r.dims(x), keepdim=r.choice(True, False)) + torch.logsumexp(x, -1).sum(),
    "special_logsumexp": lambda r, x: torch.special.logsumexp(x, r.dim(x)),
    "amax": lambda r, x: x.amax(d := r.dims(x), keepdim=(k := r.choice(True, False))) * torch.amin(x, d, k) + x.amax(),
    "max": lambda r, x: (x.max(), x.min(), x.max(d := r.dim(x)).values, torch.min(x, dim=d, keepdim=True)[0]),
    "median": lambda r, x: (x.median(), x.median(r.dim(x))[0], x.nanmedian()),
    "order": lambda r, x: (x.sort(d := r.dim(x), descending=True)[0], x.topk(2, d)[0], x.kthvalue(2, d, True).values),
    "cummax": lambda r, x: (x.cummax(d := r.dim(x))[0], x.cummin(d).values, x.mode(d).values, torch.sort(x)[0]),
    "norm": lambda r, x: (
        x.norm(dim=(d := r.dim(x)), keepdim=(k := r.choice(True, False))),
        x.norm(3, d, k),
        torch.norm(x, 1, d),
        torch.linalg.vector_norm(x, r.choice(1, 2, 2.5, 3, math.inf, -math.inf, 0), r.dims(x), k),
        torch.linalg.norm(x, 3, d),
        torch.norm(x, math.inf) + x.norm(p="fro"),
    ),
}.items():
    of_one(_name, 2 if _name in ("transposes", "moveaxis", "diagonal", "order") else 1)(_program)


@of_one("of matrices", 2, 2)
def _of_matrices(r, x):
    return (x.t(), torch.linalg.matrix_norm(x), torch.linalg.norm(x, "fro"), torch.trace(x), torch.diag(x)) + (
        torch.view_as_complex(x[:, :2].contiguous()),
        x.index_fill(0, r.index(2, 1), 3.0),
        x.scatter(0, r.index(2, 2, 2), 1.5),
    )


@of_one("rotation of pairs", 1)
def _rotation(r, x):
    """Rotary embeddings, by complex numbers and by halves."""
    pairs = torch.stack([x, x.sin()], -1)
    turned = torch.view_as_real(
        torch.view_as_complex(pairs) * torch.polar(torch.ones_like(x), r(*x.shape).to(x.dtype))
    ).flatten(-2)
    halves = torch.cat([x, x.cos()], -1)
    a, b = halves.chunk(2, -1)
    return turned, halves * 0.3 + torch.cat([-b, a], -1) * 0.7


@of_one("of images", 3, 3)
def _of_images(r, x):
    return x.dsplit(1)[0] * x.type(torch.float64)


@of_several
def joins(r):
    shape = r.shape(2)
    xs = [r(*shape) for _ in range(3)]

    def program(a, b, c):
        dim = r_dim
        columns = [y.flatten() for y in (a, b, c)]
        whole = torch.ones(shape, dtype=torch.int64)
        return (
            torch.cat([a, b, c, whole], dim),
            torch.stack((a, b, c), dim=dim),
            torch.hstack([a, b]),
            torch.vstack([b, c]),
            torch.dstack([a, b]),
            torch.column_stack(columns),
            torch.row_stack([a, b]),
            torch.concat([a, b], dim),
            torch.concatenate([a, c]),
            torch.cat(tensors=[a, b]),
        )

    r_dim = r.dim(xs[0])
    return program, xs


@of_several
def scatters(r):
    n = r.number(3, 5)
    index = r.order(n)[:3]
    rows = index[:, None].expand(3, 4)
    mask = r.mask(n, 4)

    def program(x, y):
        return (
            x.scatter(0, rows, y),
            x.scatter_add(0, rows, y),
            x.index_add(0, index, y, alpha=0.5),
            x.index_copy(0, index, y),
            x.scatter(0, rows, src=y),
            torch.slice_scatter(x, y, 0, 0, 3),
            torch.select_scatter(x, y[0], 0, 1),
            torch.diagonal_scatter(x, y.flatten()[: min(n, 4)]),
            x.index_put((index,), y),
            torch.index_fill(x, 0, index, y[0, 0]),
            x.masked_scatter(mask, torch.cat([y, y, y])),
        )

    return program, [r(n, 4), r(3, 4)]


@of_several
def products(r):
    n, m, k = (r.number(2, 4) for _ in range(3))

    def program(a, b, v):
        return (
            a @ b,
            torch.matmul(a, other=b),
            torch.mm(a, b),
            a @ v,
            v @ b,
            torch.mv(a, v),
            b.T @ v,
            torch.dot(v, v.sin()),
            torch.inner(a, v),
            torch.vdot(v, v),
            torch.outer(v, v),
            torch.bmm(a[None], mat2=b[None]),
            a.matmul(b),
            torch.einsum("ij,jk,j->ik", a, b, v),
            torch.einsum("ij,jk->ki", [a, b]),
            torch.tensordot(a, b, 1),
            torch.tensordot(a, b, dims=([1], [0])),
            torch.linalg.matmul(a, b),
            torch.linalg.vecdot(v, v.cos()),
            torch.rand(2, n, m, dtype=a.dtype) @ b,
            a.__rmatmul__(torch.ones(2, n, dtype=a.dtype)),
        )

    return program, [r(n, m), r(m, k), r(m)]


@of_several
def crosses(r):
    return (lambda a, b: torch.cross(a, b, dim=-1) + torch.linalg.cross(b, a) * (a * b)), [r(2, 3), r(2, 3)]


@of_several
def sums_with_products(r):
    n, m, k = (r.number(2, 4) for _ in range(3))
    x = r.choice(r(n, k), r(k), r(1, 1))

    def program(x, a, b, v):
        options = {"beta": 0.5, "alpha": 2.0}
        return (
            torch.addmm(x, a, b, **options),
            torch.baddbmm(x[None] if x.ndim == 2 else x, a[None], b[None], **options),
            torch.addbmm(x, a[None], b[None]),
            torch.addmv(x.sum(), a, v),
            torch.addr(x.mean(), v, v, alpha=3),
        )

    return program, [x, r(n, m), r(m, k), r(m)]


@of_several
def distances(r):
    shape = (r.number(2, 3), 3)
    p = r.choice(1.0, 2.0, 3.0)

    def program(a, b, cdist=torch.cdist):
        return (
            torch.nn.functional.normalize(a, p, -1),
            torch.cosine_similarity(a, b),
            cdist(a, b, p),
            torch.nn.functional.pairwise_distance(a, b, p),
            torch.nn.functional.normalize(a),
            torch.cosine_similarity(a, b[0], -1),
            torch.cosine_similarity(a[:, None], b, dim=2),
        )

    def by_norms(a, b, p):
        return torch.linalg.vector_norm(a[:, None] - b, p, -1)

    return program, [r(*shape), r(*shape)], lambda a, b: program(a, b, by_norms)


@of_several
def filled(r):
    """What empty_like has made, filled in two parts, as rotary embeddings are."""

    def program(x):
        out = torch.empty_like(x)
        out[..., :1] = x[..., :1].sin()
        out[..., 1:] = x[..., 1:].square() * x[..., :1]
        return out

    return program, [r.any(2, 3)]
