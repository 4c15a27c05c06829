"""Section 6.1 of the post, "Applications": sequences of continuous frames, one jump a frame.

    python examples/23_sequences.py

A chain x_{k+1} = 0.8 x_k + n takes a step n of about 0.6 up or down. A recurrent network reads the past, and a
flow-map head makes the next frame from noise by one jump, as in Continuous Audio Language Models. A head that predicts
the mean of the next frame would make the chain stand still, and a low temperature moves steps between the two modes.
"""

import torch
from _pictures import run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

LENGTH, ROWS = 24, 4096


def chain(n, length):
    """Rows (n, length, 1) of the chain, after forty steps from 0."""
    x, rows = torch.zeros(n), []
    for _ in range(40 + length):
        x = 0.8 * x + 0.6 * torch.randn(n).sign() + 0.15 * torch.randn(n)
        rows.append(x)
    return torch.stack(rows[40:], 1)[..., None]


def main(out, steps=700):
    torch.manual_seed(0)
    data = fm.data.as_data(chain(20_000, LENGTH), kind="vectors")
    head = fm.FlowMap(fm.networks.Head(1, context=64, width=64, depth=2))
    model = fm.Autoregressive(head, fm.networks.Recurrent(1, 64))
    method = model.method(fm.methods.lsd(times=fm.times.uniform_triangle(1e-3)), repeats=4)
    model = fm.Autoregressive.of(trained(model.flow, method, data, steps, batch_size=32, lr=3e-3))
    drawn = {"the chain": chain(ROWS, 3 * LENGTH)[..., 0]}
    for title, temperature in (("1 jump a frame", 1.0), ("temperature 0.3", 0.3)):
        made = model.generate(length=3 * LENGTH, rows=ROWS, temperature=temperature, seed=1).frames
        drawn[title] = made[..., 0]
    with figure(light, 12.4, 6.6, out, nrows=2, ncols=3, squeeze=False) as (_, axes):
        for (title, x), above, below in zip(drawn.items(), *axes, strict=True):
            above.plot(x[:4, LENGTH:].T, linewidth=1.4)
            above.set(title=title, xlabel="frame", ylim=(-4, 4))
            below.hist(innovations(x).flatten().numpy(), bins=120, range=(-1.3, 1.3), density=True)
            below.set(xlabel="step n", ylim=(0, 1.5), yticks=[])
    found = {f"variance, {title}": float(x[:, LENGTH:].var()) for title, x in drawn.items()}
    for title, x in drawn.items():
        found[f"steps within 0.3 of 0, {title}"] = float((innovations(x).abs() < 0.3).float().mean())
    return found


def innovations(x):
    """The steps n of sequences, after the first ones."""
    return x[:, LENGTH + 1 :] - 0.8 * x[:, LENGTH:-1]


if __name__ == "__main__":
    run(main)
