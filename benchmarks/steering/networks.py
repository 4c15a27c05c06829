"""The networks of `benchmarks.steering`: each is trained once and kept in the folder of the runs."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import flowmaps as fm
from flowmaps.evaluate.features import Classifier
from flowmaps.files import opened_tensors, save_tensors, write_json
from flowmaps.velocity import constant
from flowmaps.velocity.around import AroundFlow

SECONDS = 100.0
"""Processor time of the training of each of the larger maps."""
TRAINING: dict[str, Any] = {
    "batch_size": 256,
    "schedule": fm.training.WarmUpStableDecay(),
    "lr": 1e-3,
    "clip": 10.0,
    "clock": "processor",
    "progress_bar": False,
    "trackers": (),
    "sample_every": 0,
}
"""The settings of `flowmaps train`."""


@cache
def data() -> fm.data.Data:
    """The digits."""
    return fm.data.load("digits")


def half(which: int) -> fm.data.Data:
    """One half of the training images, with their labels."""
    rows = data().draw(data().size or 0)
    assert rows.label is not None
    chosen = torch.arange(which, len(rows.x0), 2)
    return fm.data.as_data((rows.x0[chosen], rows.label[chosen]))


class ToClass(AroundFlow):
    """The velocity of a map, tilted to the class of each row: a teacher for data with labels."""

    def __init__(self, flow: Any, classifier: Classifier, label: Tensor | None = None) -> None:
        super().__init__(flow)
        self.classifier, self.label = classifier, label

    def given(self, *, label: Tensor) -> ToClass:
        """Bind the classes."""
        return ToClass(self.flow, self.classifier, label)

    def with_constant_weights(self) -> ToClass:
        """Make the weights of the map constants."""
        return ToClass(constant(self.flow), self.classifier, self.label)

    def velocity(self, x: Tensor, t: Any) -> Tensor:
        """The tilted velocity."""
        assert self.label is not None
        reward = fm.rewards.label(self.classifier, self.label)
        return fm.steering.tilt(self.flow, fm.steering.value(reward)).velocity(x, t)


@dataclass(frozen=True)
class Networks:
    """The trained networks, made when they are asked for the first time.

    Args:
        folder: Folder of their files.
        seconds: Processor time of the training of each of the larger maps.
    """

    folder: Path
    seconds: float = SECONDS

    @cached_property
    def base(self) -> fm.FlowMap:
        """The flow map without labels that all methods steer."""
        return self._map("base", lambda: self._trained(fm.recipes.flow_for(data()), data(), labels=False))

    @cached_property
    def conditional(self) -> fm.FlowMap:
        """The class-conditional flow map, trained on the labels of the data."""
        make = lambda: self._trained(fm.recipes.flow_for(data(), classes=10), data(), labels=True)  # noqa: E731
        return self._map("conditional", make)

    @cached_property
    def posterior(self) -> fm.FlowMap:
        """The meta flow map: from noise to the data given a noisy state, trained on pairs."""
        return self._map("posterior", self._posterior)

    @cached_property
    def classifier(self) -> Classifier:
        """The classifier that steers, trained on the first half of the training images."""
        return fm.evaluate.train_classifier(half(0), steps=400, seed=0)

    @cached_property
    def judge(self) -> Classifier:
        """The classifier that judges, trained on the second half with another seed."""
        return fm.evaluate.train_classifier(half(1), steps=400, seed=1)

    @cached_property
    def filtered(self) -> fm.FlowMap:
        """A class-conditional map, trained on samples of the base that were drawn by the weights e^r of each class."""
        make = lambda: self._trained(fm.recipes.flow_for(data(), classes=10), fm.data.as_data(self.kept), labels=True)  # noqa: E731
        return self._map("filtered", make)

    @cached_property
    def distilled(self) -> fm.FlowMap:
        """A class-conditional map that was distilled from the steered velocity."""
        return self._map("distilled", self._distilled)

    def tilted(self, label: int) -> fm.FlowMap:
        """A map that was post-trained to one class by `methods.tilting`, from the weights of the base."""
        if label not in self._tilted:
            self._tilted[label] = self._map(f"tilting-{label}", lambda: self._post_trained(label))
        return self._tilted[label]

    @cached_property
    def _tilted(self) -> dict[int, fm.FlowMap]:
        return {}

    @cached_property
    def kept(self) -> tuple[Tensor, Tensor]:
        """Samples of the base for each class and their classes: a thousand of sixteen thousand, by the weights e^r."""
        path = self._path("kept")
        if not path.exists():
            found = []
            for k in range(10):
                reward = fm.rewards.label(self.classifier, k)
                rows = fm.data.filtered(self.base, data(), reward, 1000, candidates=16, beta=1.0, steps=4, seed=k)
                found += [rows.draw(rows.size or 0).x0, rows.held_out(10**6).x0]
            x0 = torch.cat(found)
            save_tensors(path, {"x0": x0, "label": torch.arange(10).repeat_interleave(len(x0) // 10)}, {})
        with opened_tensors(path) as file:
            return file.get_tensor("x0"), file.get_tensor("label")

    def adapted(self, name: str, operator: Any, std: float, joint: bool) -> tuple[fm.FlowMap, fm.methods.NoiseAdapter]:
        """A noise adapter for a measurement operator, and the map that it is for: the base, or one trained with it."""
        if (name, joint) not in self._adapted:
            self._adapted[name, joint] = self._adapt(name, operator, std, joint)
        return self._adapted[name, joint]

    @cached_property
    def _adapted(self) -> dict[tuple[str, bool], tuple[fm.FlowMap, fm.methods.NoiseAdapter]]:
        return {}

    def _adapt(self, name: str, operator: Any, std: float, joint: bool) -> tuple[fm.FlowMap, fm.methods.NoiseAdapter]:
        stem = f"adapter-{name}-{std:g}{'-joint' * joint}"
        path = self._path(stem).with_suffix(".adapter")
        size = operator(torch.zeros(1, 1, 8, 8)).numel()
        layers = [torch.nn.Flatten(), torch.nn.Linear(size, 256), torch.nn.SiLU(), torch.nn.Linear(256, 256)]
        last = [torch.nn.SiLU(), torch.nn.Linear(256, 128), torch.nn.Unflatten(1, (2, 8, 8))]
        adapter = fm.methods.NoiseAdapter(torch.nn.Sequential(*layers, *last))

        def make() -> fm.FlowMap:
            flow = copy.deepcopy(self.base).requires_grad_(joint)
            method = fm.methods.variational(adapter, operator, std, tau=2 * std if joint else None)
            rows = fm.data.with_measurement(data(), operator, std)
            flow = self._trained(flow, rows, method, labels=False, share=0.1)
            save_tensors(path, adapter.state_dict(), {})
            return flow

        flow = self._map(stem, make)
        with opened_tensors(path) as file:
            adapter.load_state_dict({key: file.get_tensor(key) for key in adapter.state_dict()})
        return flow, adapter.eval().requires_grad_(False)

    def in_use(self) -> Iterator[fm.FlowMap]:
        """The flow maps that have been asked for."""
        known = [*vars(self).values(), *self._tilted.values(), *(flow for flow, _ in self._adapted.values())]
        return (one for one in known if isinstance(one, fm.FlowMap))

    def _posterior(self) -> fm.FlowMap:
        shape = fm.networks.StateInput.shape_for(data().shape)
        network = fm.networks.StateInput(fm.networks.MLP(shape, 256, 4, embedding=32))
        rows = fm.data.with_state(data())
        return self._trained(fm.FlowMap(network), rows, fm.methods.meta_flow_map(), labels=False)

    def _post_trained(self, label: int) -> fm.FlowMap:
        reward = fm.rewards.label(self.classifier, label)
        method = fm.methods.tilting(reward, 1.0, self.base, posterior=self.posterior, draws=4, by_gradient=False)
        flow = copy.deepcopy(self.base).requires_grad_()
        rows = fm.data.as_data(self.kept[0][self.kept[1] == label])
        return self._trained(flow, rows, method, labels=False, share=0.12, lr=3e-4)

    def _distilled(self) -> fm.FlowMap:
        flow = fm.recipes.flow_for(data(), classes=10)
        flow.load_state_dict(self.base.state_dict(), strict=False)
        teacher, times = ToClass(self.base, self.classifier), fm.times.uniform_triangle(1e-3, 0.999)
        method = fm.methods.ayf_emd(teacher, times=times, weight=fm.weight.squared)
        return self._trained(flow, fm.data.as_data(self.kept), method, labels=True)

    def _map(self, name: str, make: Callable[[], fm.FlowMap]) -> fm.FlowMap:
        """A flow map from its file; it is trained, and the cost noted beside it, if there is none."""
        path = self._path(name)
        if not path.exists():
            print(f"training {name}", flush=True)
            torch.manual_seed(0)
            began = time.process_time()
            flow = make().eval()
            write_json(path.with_suffix(".json"), {"process_seconds": time.process_time() - began})
            fm.save(flow, path)
        return fm.load(path).eval().requires_grad_(False)

    def spent(self, name: str) -> float:
        """Processor time of the training of a flow map, in seconds."""
        return float(json.loads(self._path(name).with_suffix(".json").read_text())["process_seconds"])

    def _path(self, name: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name}-{self.seconds:g}s.safetensors"

    def _trained(
        self, flow: fm.FlowMap, rows: fm.data.Data, method: Any = None, *, labels: bool, share: float = 1.0, **more: Any
    ) -> fm.FlowMap:
        """The averaged weights after the training of a flow map, by default with the method of `flowmaps train`."""
        method = fm.recipes.method_for(rows) if method is None else method
        length = {"seconds": share * self.seconds}
        *_, last = fm.train(flow, method, rows, seed=0, labels=labels, **length, **TRAINING | more)
        return last.ema
