"""Critics made of other networks: their values by hand, and features that stay constant."""

import copy

import pytest
import torch
from torch import nn

from flowmaps import networks as nets


class Features(nn.Module):
    """Outputs of several shapes."""

    def __init__(self):
        super().__init__()
        self.image, self.tokens, self.output = nn.Conv2d(1, 3, 3), nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x):
        h = self.image(x).flatten(2)
        return self.output(self.tokens(h[..., :6]).mean(1))


def made(**options):
    torch.manual_seed(0)
    features = Features().double()
    return features, nets.Heads(features, ("image", "tokens", ""), (torch.zeros(1, 1, 5, 5).double(),), 7, **options)


def test_a_time_critic_sums_the_values_of_its_network():
    net, x, t = nets.MLP(3, width=8, depth=1, classes=2), torch.randn(4, 3), torch.rand(4)
    nn.init.normal_(net.output.weight)
    label = torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(nets.TimeCritic(net)(x, t, label=label), net(x, t, t, label).sum(1) / 3**0.5)
    with pytest.raises(TypeError, match="a critic is made of a network"):
        nets.TimeCritic(abs)


def test_heads_read_features_at_each_position():
    features, heads = made()
    heads = heads.double()
    x, t = torch.randn(2, 1, 5, 5).double(), torch.rand(2)
    image = features.image(x)
    tokens = features.tokens(image.flatten(2)[..., :6])
    seen = [image.permute(0, 2, 3, 1).flatten(1, 2), tokens, features.output(tokens.mean(1))[:, None]]
    wanted = [
        verdict.linear(nn.functional.silu(layer(one)).mean(1))
        for layer, verdict, one in zip(heads.inputs, heads.verdicts, seen, strict=True)
    ]
    torch.testing.assert_close(heads(x, t), torch.cat(wanted, 1))
    torch.testing.assert_close(copy.deepcopy(heads)(x, t), heads(x, t))
    assert not features.image._forward_hooks and not any(
        "frozen" in name or "image" in name for name in heads.state_dict()
    )


def test_gradients_pass_the_features_and_do_not_change_them():
    features, heads = made(classes=3)
    heads, x = heads.double(), torch.randn(2, 1, 5, 5).double().requires_grad_()
    heads(x, torch.rand(2), label=torch.tensor([0, 2])).sum().backward()
    assert bool(x.grad.any()) and all(p.grad is None for p in (*features.parameters(), *heads._frozen.parameters()))
    assert all(p.grad is not None for p in heads.parameters())


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("tokens", "imago"), "the network has no layer 'imago' .did you mean image"),
        ("image", "a list of the names of layers"),
        ((), "a list of the names of layers"),
    ],
)
def test_wrong_layers_are_refused(layers, message):
    with pytest.raises(ValueError, match=message):
        nets.Heads(Features(), layers, (torch.zeros(1, 1, 5, 5),))
