"""Section 6.3 of the post, "Discrete data and language": words of one jump.

    python examples/21_text.py

The keywords of Python are one-hot rows of letters, all of them equally likely. A flow map learns them by
cross-entropies: the denoiser on the diagonal, and the compositional rule off it. Its jumps stand beside Euler steps of
its own velocity; a single Euler step has the same answer for every noise.
"""

import keyword

import torch
from _pictures import run, trained

import flowmaps as fm
from flowmaps.figures.style import figure, light

WORDS = sorted(word.lower() for word in keyword.kwlist)
LETTERS = fm.data.Characters("".join(sorted(set("".join(WORDS)))) + "\n", padded=True)
LENGTH, SAMPLES = max(map(len, WORDS)), 2000


def tv(texts):
    """Total variation between the words of samples and the uniform law of the keywords."""
    shares = {word: texts.count(word) / len(texts) for word in set(texts) | set(WORDS)}
    return sum(abs(share - (word in WORDS) / len(WORDS)) for word, share in shares.items()) / 2


def main(out, steps=2000):
    ids = torch.stack([LETTERS.encode(word.ljust(LENGTH, "\n")) for word in WORDS])
    data = fm.data.tokens(ids.repeat(50, 1), vocabulary=LETTERS)
    network = fm.networks.MLP(data.shape, width=128, depth=3)
    flow = fm.FlowMap(network, fm.Endpoint(link=fm.links.softmax))
    flow = trained(flow, fm.methods.dfm_psd(), data, steps, lr=2e-3)
    noise, found, shown = fm.noise(flow, SAMPLES, seed=0), {}, {}
    for title, step in (("jump", fm.steps.jump), ("Euler step", fm.steps.euler)):
        for n in (1, 4, 16):
            name = f"{n} {title}{'s' * (n > 1)}"
            shown[name] = LETTERS.decode(fm.sample(flow, noise, n, step=step))
            found[f"share of keywords, {name}"] = sum(text in WORDS for text in shown[name]) / SAMPLES
            found[f"total variation, {name}"] = tv(shown[name])
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randint(len(WORDS), (SAMPLES,), generator=generator).tolist()
    found[f"total variation, {SAMPLES} exact draws"] = tv([WORDS[k] for k in drawn])
    with figure(light, 12, 3.6, out, ncols=len(shown)) as (_, axes):
        for axis, (name, texts) in zip(axes, shown.items(), strict=True):
            for row, text in enumerate(texts[:12]):
                is_word = text in WORDS
                colour, weight = (light.series[0], "bold") if is_word else (light.muted, "normal")
                place = 0.1, 1 - (row + 1) / 13
                axis.text(*place, text, color=colour, weight=weight, family="monospace", va="center")
            share = found[f"share of keywords, {name}"]
            axis.set(title=f"{name}\n{share:.0%} keywords", xticks=[], yticks=[])
    return found


if __name__ == "__main__":
    run(main)
