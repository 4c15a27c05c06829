"""Records of flow maps, which the script of a page evaluates."""

import json

import pytest
import torch

import flowmaps as fm
from flowmaps.networks import MLP
from flowmaps.reports.explore_page.networks import NotInPages, decoded, record, rounded
from tests.reports.explore_page.conftest import records

MAPS = {
    "plain": lambda: fm.FlowMap(MLP(2, 16, 2, embedding=8)),
    "waves": lambda: fm.FlowMap(MLP(2, 16, 2, embedding=8, waves=3, data_std=1.7)),
    "labels": lambda: fm.FlowMap(MLP(3, 16, 2, embedding=8, classes=4, times=fm.networks.embeddings.decoupled)),
    "no time": lambda: fm.FlowMap(MLP(2, 16, 2, embedding=8, times=fm.networks.embeddings.none)),
    "raw times": lambda: fm.FlowMap(MLP(2, 16, 2, embedding=8, features=fm.networks.embeddings.raw)),
    "endpoint": lambda: fm.FlowMap(MLP(2, 16, 2, embedding=8), fm.Endpoint(), fm.path.trigonometric, only_target=0.0),
    "softmax": lambda: fm.FlowMap(MLP(3, 16, 2, embedding=8), fm.Endpoint(link=fm.links.softmax)),
    "bounded": lambda: fm.FlowMap(MLP.lipschitz(2, width=16, depth=2, embedding=8)),
    "sphere": lambda: fm.FlowMap(MLP(3, 16, 2, embedding=8), path=fm.path.Geodesic(fm.manifolds.Sphere(2))),
}


def made(name):
    torch.manual_seed(0)
    flow = MAPS[name]()
    for weight in flow.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return flow


def points(size, curved=False, n=5):
    x = torch.randn(n, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True) if curved else x


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("name", MAPS)
def test_a_record_has_everything(name, dtype):
    flow = made(name)
    found = decoded(json.loads(json.dumps(record(flow, dtype))))
    x, s, t = points(flow.network.shape[0], flow.path.curved), 0.9, 0.0
    assert (found(x, s, t) - rounded(flow, dtype).double()(x, s, t)).abs().max() < 1e-12


def test_other_maps_are_refused():
    torch.manual_seed(0)
    unet = fm.FlowMap(fm.networks.DiT((1, 8, 8), 4, 16, 2, 2))
    with pytest.raises(NotInPages, match="DiT"):
        record(unet)
    with pytest.raises(NotInPages, match="path"):
        record(fm.FlowMap(MLP(2, 8, 1), path=fm.path.VariancePreserving()))
    with pytest.raises(NotInPages, match="Position"):
        record(fm.FlowMap(MLP(2, 8, 1), fm.Position()))
    with pytest.raises(NotInPages, match="linear in s and t"):
        record(fm.FlowMap(MLP(2, 8, 1, times=lambda s, t, depth: [((s * s, t), depth)])))
    broken = fm.FlowMap(MLP(2, 8, 1))
    torch.nn.init.constant_(broken.network.input.weight, 1e6)
    with pytest.raises(NotInPages, match="float16"):
        record(broken, torch.float16)


IN_PAGE = """async ([made, x, s, t]) => {
  const { FlowMap } = await import("networks");
  return made.map((record, i) => {
    const flow = new FlowMap(record);
    const label = record.network.classes === null ? null : 1;
    return [...flow.jump(Float64Array.from(x[i]), s[i], t[i], label, record.network.guidance ? 2 : null)];
  });
}"""


@pytest.mark.slow
def test_the_page_computes_the_numbers_of_python(page, post, data):
    """Every network of the page of the post, and every kind of map that a page knows."""
    all_maps = [*records(data), *(record(made(name)) for name in MAPS)]
    assert len(all_maps) > 4 * len(fm.methods.LANDSCAPE)
    flows = [decoded(one) for one in all_maps]
    x = [points(one["network"]["size"], one["path"] == "sphere") for one in all_maps]
    s = [0.8 if flow.only_source is None else 1.0 for flow in flows]
    t = [0.3 if flow.only_target is None and flow.only_source is None else 0.0 for flow in flows]
    view = page()
    view.goto(post.as_uri())
    given = [all_maps, [part.flatten().tolist() for part in x], s, t]
    found = view.evaluate(IN_PAGE, given)
    for one, flow, start, source, target, end in zip(all_maps, flows, x, s, t, found, strict=True):
        label = {} if one["network"]["classes"] is None else {"label": 1}
        told = {"guidance": 2.0} if one["network"].get("guidance") else {}
        expected = flow.given(**label, **told)(start, source, target)
        assert (torch.tensor(end, dtype=torch.float64).view_as(start) - expected).abs().max() < 1e-6
        assert (expected - start).abs().max() > 1e-3  # a map that stays in place would be no check
