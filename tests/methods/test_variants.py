"""The papers' own settings: names, costs and runs of every variant, and their words in the tools."""

import copy
import inspect
import json
import math

import pytest
import torch

import flowmaps as fm
from flowmaps import cli
from flowmaps.methods import LANDSCAPE, variants
from flowmaps.methods.variants import VARIANTS
from flowmaps.recipes.rows import rows_of
from flowmaps.times.grids import edm_levels, karras
from tests.methods.support import Network, made
from tests.methods.test_landscape import Wide, as_the_post_counts, passes, times_of
from tests.oracles import gaussian, randn

EACH = pytest.mark.parametrize("row", VARIANTS, ids=[row.name for row in VARIANTS])
GUIDED = {name: fm.guidance.meanflow for name in ("meanflow", "alphaflow")}
GUIDED |= {"soflow": fm.guidance.soflow, "pixel_meanflow": fm.guidance.imf}
QUIET = {"progress_bar": False, "trackers": (), "sample_every": 0, "batch_size": 32}


@EACH
def test_a_variant_is_found_by_its_name_like_a_method(row):
    assert row.build.__name__ == row.name and getattr(variants, row.name) is row.build
    assert row.name.startswith(f"{row.of}_") and row.of in {one.name for one in LANDSCAPE}
    assert fm.methods.landscape.row_named(row.name.replace("_", "-")) is row
    assert row.setting and row.sets and json.loads(json.dumps(row.as_dict()))["of"] == row.of
    method = made(row, fm.FlowMap(Network(seed=2)))
    assert method.name == row.name and method.data_free == row.data_free


@EACH
def test_a_variant_has_a_finite_loss_and_gradient(row):
    torch.manual_seed(0)
    flow = flow_for(row, Network(seed=1))
    method = made(row, fm.FlowMap(Network(seed=2)))
    assert sum(term.share for term in method.terms) == pytest.approx(1)
    for progress in (0.0, 0.5, 1.0):
        loss = method.loss(flow, randn(32, 3), progress=progress)
        weights = [weight for weight in flow.parameters() if weight.requires_grad]
        gradients = torch.autograd.grad(loss.value, weights, retain_graph=True)
        assert loss.value.isfinite() and all(one.isfinite().all() for one in gradients)
        assert any(one.abs().max() > 0 for one in gradients)


@EACH
def test_the_cost_of_a_variant_is_counted(row):
    network = Wide()
    flow, method = flow_for(row, network), made(row, fm.FlowMap(copy.deepcopy(network)))
    method.follow(flow)
    whole = as_the_post_counts(row, method)
    # a ratio of gradients adds a third of a pass
    assert passes(whole, flow, times=times_of(row), progress=0.5) == pytest.approx(row.cost, abs=0.06, rel=0.01)
    assert passes(method, flow, progress=0.5) == pytest.approx(row.shared, abs=0.06, rel=0.01)


@EACH
def test_a_variant_trains_in_a_folder_and_is_resumed(row, tmp_path):
    def run(**options):
        torch.manual_seed(3)
        flow = flow_for(row, fm.networks.MLP(2, width=8, depth=1, embedding=8))
        method = made(row, fm.exact.Gaussian([0.5, 0.0], [1.0, 0.5]))
        data = torch.randn(64, 2, generator=torch.Generator().manual_seed(5))
        settings = QUIET | {"out": tmp_path / "run", "checkpoint_every": 1, "steps": 3}
        return fm.train(flow, method, data, **settings, **options)

    for state in run():
        if state.step == 2:
            break
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert config["method"]["name"] == row.name and "unknown" not in json.dumps(config["method"])
    assert " at 0x" not in json.dumps(config)
    assert fm.load(tmp_path / "run").only_target == row.only_target
    assert [state.step for state in run(resume=True)] == [3]


@pytest.mark.parametrize("name", ["ct", "ict", "cd", "lcm", "ctm"])
def test_a_resumed_run_notices_another_grid(name, tmp_path):
    row = fm.methods.landscape.row_named(name)

    def run(grid, **options):
        flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8), only_target=row.only_target)
        teacher = {"teacher": fm.exact.Gaussian([0.5, 0.0], [1.0, 0.5])} if row.needs_teacher else {}
        method = row.build(**teacher, grid=grid)
        settings = QUIET | {"out": tmp_path / "run", "checkpoint_every": 1, "steps": 1}
        return fm.fit(flow, method, torch.zeros(64, 2), **settings, **options)

    run(edm_levels)
    with pytest.raises(ValueError, match="another configuration"):
        run(karras, resume=True)


def flow_for(row, network):
    return fm.FlowMap(network, only_source=row.only_source, only_target=row.only_target)


def test_variants_with_lpips_say_what_to_install():
    for row in VARIANTS:
        if "compare" in inspect.signature(row.build).parameters:
            with pytest.raises((ImportError, RuntimeError), match="perceptual|could not be downloaded"):
                made(row, gaussian(), compare=None)


def test_a_distance_of_features():
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 4, 3)
    compare = fm.perceptual.features(network, size=None)
    a, b = torch.rand(2, 5, 3, 8, 8)
    wanted = (network(a) - network(b)).flatten(1).square().mean(1, keepdim=True)
    torch.testing.assert_close(compare(a, b), wanted)
    assert not compare(a, a).any() and not any(weight.requires_grad for weight in [compare(a, b)])
    with pytest.raises(TypeError, match="needs a network"):
        fm.perceptual.features(3)


def test_a_name_of_a_variant_trains():
    flow = fm.FlowMap(fm.networks.MLP(2, width=8, depth=1, embedding=8))
    state = fm.fit(flow, "meanflow_cifar10", torch.zeros(64, 2), steps=1, **QUIET)
    assert state.step == 1
    with pytest.raises(ValueError, match=r"pass fm.methods.variants.lmd_both_orders\(teacher=...\)"):
        fm.fit(flow, "lmd_both_orders", torch.zeros(64, 2), steps=1, **QUIET)
    with pytest.raises(ValueError, match="did you mean meanflow_cifar10"):
        fm.fit(flow, "meanflow_cifar", torch.zeros(64, 2), steps=1, **QUIET)


def test_the_shell_trains_and_distils_variants(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = ["--steps", "2", "--batch-size", "16", "--width", "8", "--depth", "1", "--trackers", "--no-progress-bar"]
    few += ["--sample-every", "0"]
    assert cli.main(["train", "two_moons", "--method", "alphaflow_official", "--out", "run", *few]) == 0
    assert json.loads((tmp_path / "run/config.json").read_text())["method"]["name"] == "alphaflow_official"
    assert cli.main(["distill", "run", "--method", "lmd_both_orders", "--out", "student", *few[:4], *few[8:]]) == 0
    assert fm.load(tmp_path / "student").trained.up
    assert cli.main(["train", "two_moons", "--method", "soflow_cifar", "--out", "other", *few]) == 2
    assert "soflow_cifar10" in capsys.readouterr().err
    assert cli.main(["distill", "run", "--method", "cd_cifar10", "--out", "other", *few[:4], *few[8:]]) > 0
    assert 'pip install ".[perceptual]"' in capsys.readouterr().err and not (tmp_path / "other").exists()


def test_a_comparison_takes_a_variant_beside_its_method():
    rows = rows_of(["shortcut", "shortcut-official", variants.fmm_square])
    assert [row.name for row in rows] == ["shortcut", "shortcut_official", "fmm_square"]
    assert rows_of({"eighth": variants.shortcut_official()})[0].paper is rows[0].paper


def test_the_list_of_methods_names_the_variants(capsys):
    assert cli.main(["methods"]) == 0
    text = capsys.readouterr().out
    assert all(row.name in text for row in VARIANTS)
    assert cli.main(["explain", "shortcut_official"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "the code of the paper" in text and "clamped at 4" in text
    assert cli.main(["explain", "shortcut_official", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["of"] == "shortcut"


@pytest.mark.parametrize("row", [row for row in VARIANTS if row.of in GUIDED], ids=lambda row: row.name)
def test_a_variant_is_guided_like_its_method(row):
    """The guided velocity reaches every term: another scale is another loss, with a finite gradient."""
    values = []
    for scale in (1.0, 3.0):
        torch.manual_seed(0)
        flow = flow_for(row, fm.networks.MLP(2, width=8, depth=1, embedding=8, classes=4))
        for weight in flow.parameters():
            weight.data += 0.1 * torch.randn_like(weight)
        method = fm.guidance.guided(made(row), GUIDED[row.of](scale=scale, null={"label": 3}))
        assert method.name == row.name
        loss = method.loss(flow, torch.randn(32, 2), torch.arange(32) % 3, progress=0.5)
        loss.value.backward()
        assert all(weight.grad is None or weight.grad.isfinite().all() for weight in flow.parameters())
        values.append(loss.value.item())
    assert math.isfinite(values[0]) and values[0] != values[1]
