"""Critics: logits of rows that do not see each other, smooth enough for penalties on their gradient."""

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from flowmaps import derivative
from flowmaps import networks as nets
from flowmaps.runs.fingerprint import fingerprint
from flowmaps.serialise import describe, public_name

CLASSES = 3


def points(**options):
    return nets.Critic(2, width=16, depth=3, **options)


def images(**options):
    return nets.ImageCritic((2, 9, 6), width=4, levels=2, **options)


SHAPES = {points: (2,), images: (2, 9, 6)}
BOTH = pytest.mark.parametrize("make", [points, images])


def inputs(make, batch=4, seed=0):
    return torch.randn(batch, *SHAPES[make], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@BOTH
def test_one_logit_a_row_whatever_the_other_rows(make):
    critic, x, label = make(classes=CLASSES).double(), inputs(make), torch.tensor([0, 2, 1, 3])
    logits = critic(x, label)
    assert logits.shape == (4,) and logits.dtype == x.dtype
    for i in range(4):
        torch.testing.assert_close(critic(x[i : i + 1], int(label[i])), logits[i : i + 1])
    torch.testing.assert_close(critic(x), critic(x, torch.full((4,), CLASSES)))
    assert (critic(x) - logits)[:3].abs().min() > 1e-6
    with pytest.raises(ValueError, match="built without classes"):
        make()(x.float(), label)
    with pytest.raises(ValueError, match="takes x of shape"):
        critic(x.flatten(1)[:, :1])


def test_the_mlp_written_out():
    critic, x = nets.Critic(2, width=8, depth=2, classes=CLASSES, data_std=0.5).double(), inputs(points)
    h = 2 * x
    for layer in (critic.input, *critic.hidden):
        h = h @ layer.weight.T + layer.bias
        h = h * torch.sigmoid(h)
    final, table = critic.verdict.linear, critic.verdict.label.table.weight
    expected = (h @ final.weight.T + final.bias)[:, 0] + (h * table[1]).sum(1) / 8**0.5
    torch.testing.assert_close(critic(x, 1), expected)


@BOTH
def test_the_gradient_of_a_gradient_penalty(make):
    """R1's gradient in the weights against differences of the penalty."""
    critic, x = make().double(), inputs(make).requires_grad_()
    weight = critic.input.weight

    def penalty():
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        return gradient.flatten(1).square().sum(1).mean()

    (slope,) = torch.autograd.grad(penalty(), weight)
    direction = torch.randn_like(weight)
    h, values = 1e-5, []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * h * direction
        values.append(penalty().item())
        with torch.no_grad():
            weight -= sign * h * direction
    expected = (values[0] - values[1]) / (2 * h)
    assert abs(expected) > 1e-6
    assert (slope * direction).sum().item() == pytest.approx(expected, rel=1e-5)


@BOTH
def test_gradients_reach_every_weight(make):
    critic, x = make(classes=CLASSES).double(), inputs(make)
    critic(x, torch.tensor([0, 1, 2, 3])).square().sum().backward()
    assert [key for key, weight in critic.named_parameters() if not weight.grad.any()] == []


@BOTH
def test_dual_numbers_pass_through(make):
    critic, x, dx = make().double(), inputs(make), inputs(make, seed=1)
    expected = torch.func.jvp(critic, (x,), (dx,))
    for value, result in zip(expected, derivative.jvp(critic, (x,), (dx,)), strict=True):
        torch.testing.assert_close(result, value)


@BOTH
def test_a_run_records_the_critic_and_no_file_names_it(make):
    """A critic is no part of a flow map: its arguments are compared when a run goes on, and it is never built."""
    critic = make(classes=CLASSES)
    known = fingerprint(critic)
    assert known["type"] == public_name(type(critic)) and known["arguments"]["classes"] == CLASSES
    again = type(critic)(**known["arguments"])
    assert [value.shape for value in again.parameters()] == [value.shape for value in critic.parameters()]
    with pytest.raises(TypeError, match="cannot describe"):
        describe(critic)


@BOTH
def test_a_trained_critic_knows_the_log_ratio_of_two_gaussians(make):
    """N(+m, 1) against N(-m, 1) in every coordinate: the best logit is 2 m sum(x)."""
    torch.manual_seed(0)
    critic, m = make(), 0.5 / torch.tensor(SHAPES[make]).prod().sqrt()
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    for _ in range(300):
        y = torch.randint(2, (256, *[1] * len(SHAPES[make]))).float()
        x = torch.randn(256, *SHAPES[make]) + m * (2 * y - 1)
        loss = binary_cross_entropy_with_logits(critic(x), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.randn(2000, *SHAPES[make])
    expected = 2 * m * x.flatten(1).sum(1)
    assert torch.corrcoef(torch.stack([critic(x).detach(), expected]))[0, 1] > 0.8


@pytest.mark.parametrize(("shape", "levels", "places"), [((1, 8, 8), 3, 1), ((1, 28, 28), 3, 16), ((3, 5, 9), 2, 6)])
def test_images_of_any_sides(shape, levels, places):
    critic = nets.ImageCritic(shape, width=4, levels=levels)
    assert critic.features.in_features == places * critic.features.out_features
    assert critic(torch.randn(2, *shape)).shape == (2,)
    with pytest.raises(ValueError, match="5 levels halve images of more than 16 pixels"):
        nets.ImageCritic((1, 8, 8), levels=5)
