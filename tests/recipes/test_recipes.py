"""Recipes: what a flow map starts as, by the kind of data."""

import pytest
import torch

import flowmaps as fm
from flowmaps.serialise import build, describe


@pytest.fixture(scope="module")
def digits():
    return fm.data.load("digits")


def test_small_images_start_as_the_flow_of_a_gaussian_cut_to_the_range(digits):
    """The network starts at zero, so one jump from noise is the exact Gaussian's, clamped."""
    flow = fm.recipes.small_images(digits, width=16, depth=1)
    x = torch.randn(32, 1, 8, 8)
    gaussian = fm.exact.Gaussian.fit(digits.draw(10_000, seed=0).x0, floor=0.01)
    torch.testing.assert_close(fm.sample(flow, x), gaussian.flow_map(x, 1, 0).clamp(-1, 1), rtol=1e-4, atol=1e-4)


def test_larger_images_start_as_the_flow_of_a_separable_gaussian_cut_to_the_range():
    x0 = torch.rand(40, 3, 20, 24, generator=torch.Generator().manual_seed(0)).cumsum(-1) / 12 - 1
    flow = fm.recipes.images(fm.data.as_data(x0, kind="images"), width=8, depth=1)
    skip, x = flow.output.output, torch.randn(16, 3, 20, 24)
    mean, seen = skip.turned(skip.mean), skip.turned(x)
    expected = skip.turned_back(mean + skip.variances.sqrt() * seen)
    torch.testing.assert_close(fm.sample(flow, x), expected.clamp(-1, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("floor", [1e-3, 1.0])
def test_vectors_start_as_the_flow_of_a_gaussian_in_any_units(floor):
    """One jump from noise is the exact Gaussian's, for data of any scale; a constant column keeps its value."""
    x0 = torch.randn(500, 6, generator=torch.Generator().manual_seed(0)).cumsum(-1) * floor
    x0[:, 2] = 3 * floor
    data = fm.data.as_data(x0)
    flow, x = fm.recipes.points(data, width=16, depth=1), torch.randn(32, 6)
    gaussian = fm.exact.Gaussian.fit(data.draw(10_000, seed=0).x0, floor=1e-3 * data.std**2)
    torch.testing.assert_close(fm.sample(flow, x), gaussian.flow_map(x, 1, 0), rtol=1e-3, atol=1e-3 * floor)


def test_points_see_sines_and_long_vectors_have_a_plain_network():
    few = fm.recipes.points(fm.data.as_data(torch.randn(50, 3)), width=8, depth=1)
    long = fm.recipes.points(fm.data.as_data(torch.randn(50, 1025)), width=8, depth=1)
    assert few.network.waves.shape == (3, 32) and long.network.waves is None


@pytest.mark.parametrize(
    ("shape", "network"),
    [((2,), "MLP"), ((5,), "InBasis"), ((1, 8, 8), "InBasis"), ((3, 40, 40), "GaussianEndpoint")],
)
def test_every_recipe_can_be_kept_and_rebuilt(shape, network):
    data = fm.data.as_data(torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    flow = fm.recipes.flow_for(data, width=32, depth=1)
    assert type(flow.network).__name__ == network
    again = build(describe(flow))
    again.load_state_dict(flow.state_dict())
    x = torch.randn(3, *shape)
    assert torch.equal(again(x, 0.8, 0.3), flow(x, 0.8, 0.3))


def test_classes_are_for_networks_that_are_told(digits):
    flow = fm.recipes.flow_for(digits, classes=digits.classes, width=16, depth=1)
    assert flow.given(label=torch.tensor([3, 9]))(torch.randn(2, 1, 8, 8), 1, 0).shape == (2, 1, 8, 8)


@pytest.mark.slow
def test_the_compiled_loss_of_the_digits_recipe_is_the_eager_one(digits):
    """A batch of as many rows as an image has values, where exchanged operands of a product would fit."""
    flow = fm.recipes.small_images(digits, width=16, depth=1).double()
    method = fm.methods.imf(diagonal=0.75, power=0)
    x0, noise = digits.draw(64, seed=0).x0.double(), torch.randn(64, 1, 8, 8, dtype=torch.float64)
    s = torch.rand(64, dtype=torch.float64)

    def loss():
        return method.loss(flow, x0, noise=noise, times=(s, s / 3)).value

    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(loss, backend="aot_eager")(), loss())


@pytest.mark.parametrize("shape", [(2,), (5,), (1, 8, 8), (3, 40, 40)])
@pytest.mark.parametrize("only", [{"only_source": 1.0}, {"only_target": 0.0}])
def test_every_recipe_makes_partial_maps_on_other_paths(shape, only):
    data = fm.data.as_data(torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    flow = fm.recipes.flow_for(data, width=32, depth=1, path=fm.path.trigonometric, **only)
    assert flow.path is fm.path.trigonometric
    assert {"only_source": flow.only_source, "only_target": flow.only_target} == {
        "only_source": None,
        "only_target": None,
        **only,
    }
    noise = torch.randn(3, *shape)
    assert fm.sample(flow, noise).isfinite().all()
    with pytest.raises(ValueError, match="partial flow map"):
        fm.sample(flow, noise, 2)


def test_small_images_start_as_a_gaussian_on_any_path(digits):
    flow = fm.recipes.flow_for(digits, width=16, depth=1, path=fm.path.trigonometric)
    x = torch.randn(8, 1, 8, 8)
    gaussian = fm.exact.Gaussian.fit(digits.draw(10_000, seed=0).x0, floor=0.01, path=fm.path.trigonometric)
    torch.testing.assert_close(fm.sample(flow, x), gaussian.flow_map(x, 1, 0).clamp(-1, 1), rtol=1e-4, atol=1e-4)
