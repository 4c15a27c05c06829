"""Section 6.3 of the post, "Flow maps for discrete data": words of one jump.

    python examples/21_text.py

The words of Python's own documentation are one-hot rows of letters. A flow map learns them by cross-entropies: flow
matching on the diagonal, and the compositional rule. One Euler step of the same velocity writes one word alone.
"""

import re
from pydoc_data.topics import topics

import torch
from _pictures import run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

LENGTH = 7
LETTERS = fm.data.Characters("abcdefghijklmnopqrstuvwxyz\n", padded=True)


def words():
    """Distinct words of the documentation with four to seven letters."""
    return sorted({w for w in re.findall("[a-z]+", " ".join(topics.values())) if 4 <= len(w) <= LENGTH})


def main(out, steps=1500):
    known = words()
    ids = torch.stack([LETTERS.encode(word.ljust(LENGTH, "\n")) for word in known])
    data = fm.data.tokens(ids, vocabulary=LETTERS)
    network = fm.networks.MLP(data.shape, width=256, depth=3)
    flow = fm.FlowMap(network, fm.Endpoint(link=fm.links.softmax))
    flow = trained(flow, fm.methods.dfm_psd(), data, steps, lr=2e-3)
    noise, found, shown = fm.noise(flow, 500, seed=0), {"words": len(known)}, {}
    for title, step in (("jump", fm.steps.jump), ("Euler step", fm.steps.euler)):
        for n in (1, 4, 16):
            texts = LETTERS.decode(fm.sample(flow, noise, n, step=step))
            shown[f"{n} {title}{'s' * (n > 1)}"] = texts
            found[f"share of real words, {n} {title}{'s' * (n > 1)}"] = sum(t in known for t in texts) / len(texts)
            found[f"distinct words in 500, {n} {title}{'s' * (n > 1)}"] = len(set(texts))
    with figure(light, 12, 3.4, out, ncols=len(shown)) as (_, axes):
        for axis, (title, texts) in zip(axes, shown.items(), strict=True):
            for row, text in enumerate(texts[:12]):
                real = light.series[0] if text in known else light.muted
                axis.text(0.1, 1 - (row + 1) / 13, text, color=real, family="monospace", fontsize=11)
            axis.set(title=title, xticks=[], yticks=[])
    return found


if __name__ == "__main__":
    run(main)
