"""Features to compare rows by: of a small classifier trained on the data's labels, or of Inception."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments import at_least, check_seed, expect_floating, install, shown
from ..arguments.memory import rows_at_a_time
from ..data import Data
from ..draws import seeded_by
from ..files import opened_tensors, parse_json, replacing, save_tensors, tensors_checksum
from ..networks.layers import expect_shape
from ..networks.mlp import as_image_shape, as_shape
from ..serialise import mismatch

WHITENING = 10_000


class Arguments(TypedDict):
    """The description of a classifier in its file."""

    shape: tuple[int, ...]
    classes: int


@dataclass(frozen=True)
class Features:
    """A function from rows, such as images (B, C, H, W) in [-1, 1], to features (B, K), with a name for tables.

    `classifier` is the classifier that they are of, if there is one.
    """

    name: str
    extract: Callable[[Tensor], Tensor]
    classifier: Classifier | None = None

    def __post_init__(self) -> None:
        if not callable(self.extract):
            raise TypeError(f"features are a function of rows, got {shown(self.extract)}")

    def __call__(self, x: Tensor, batch_size: int = 1024) -> Tensor:
        """Features of any number of rows, in float64 on the CPU."""
        expect_floating("x", x)
        at_least(1, batch_size=batch_size)
        batch_size = rows_at_a_time(x[0].numel() if len(x) else 1, batch_size)
        with torch.no_grad():
            return torch.cat([self.extract(rows).double().cpu() for rows in x.split(batch_size)])


class Classifier(nn.Module):
    """A small classifier of images (B, C, H, W) or vectors (B, D); its `features` are the whitened last hidden layer.

    Vectors pass one dense layer of 4 `width` channels. For images, strided 3 x 3 convolutions halve the sides until
    they are at most 4; the first one halves images with sides above 16 too. Whitening (by the features of training
    rows, `whiten`) lets the distance see more than the classes: without it, a few directions between classes hold most
    of the variance, and the random share of each class in a draw hides everything else.

    Args:
        shape: (C, H, W) of an image, or (D,) of a vector.
        classes: The number of classes.
        width: Channels of the first convolution; the others have twice as many.
        size: The number of features.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 32, size: int = 64) -> None:
        super().__init__()
        at_least(1, classes=classes, width=width, size=size)
        self.shape = as_shape(shape) if len(shape) == 1 else as_image_shape(shape)
        self.classes = classes
        self.body = _dense(self.shape[0], width, size) if len(shape) == 1 else _convolutions(self.shape, width, size)
        self.head = nn.Linear(size, classes)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.eye(size))

    def features(self, x: Tensor) -> Tensor:
        """Whitened features (B, size) of rows."""
        expect_shape(x, self.shape)
        return (self.body(x.to(self.mean)) - self.mean) @ self.axes

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        expect_shape(x, self.shape)
        return self.head(F.relu(self.body(x.to(self.mean))))

    @torch.no_grad()
    def whiten(self, x0: Tensor) -> None:
        """Give the features of x0 mean 0 and covariance 1; directions without variance stay small."""
        rows = torch.cat([self.body(part.to(self.mean)) for part in x0.split(1024)]).double()
        variances, axes = torch.linalg.eigh(torch.cov(rows.T))
        self.mean.copy_(rows.mean(0))
        self.axes.copy_(axes / variances.clamp(min=1e-3 * float(variances.max())).sqrt())

    def accuracy(self, x: Tensor, label: Tensor) -> float:
        """The share of rows of x with the largest logit at their label (B,)."""
        with torch.no_grad():
            return float((self(x).argmax(1).cpu() == label.cpu()).double().mean())


def _convolutions(shape: tuple[int, ...], width: int, size: int) -> nn.Sequential:
    """Strided convolutions and a dense layer, from images (B, C, H, W) to (B, size)."""
    channels, height, across = shape
    layers: list[nn.Module] = []
    stride = 2 if max(height, across) > 16 else 1
    while not layers or max(height, across) > 4:
        wide = 2 * width if layers else width
        layers += [nn.Conv2d(channels, wide, 3, stride=stride, padding=1), nn.ReLU()]
        channels, height, across = wide, -(-height // stride), -(-across // stride)
        stride = 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * across, size))


def _dense(inputs: int, width: int, size: int) -> nn.Sequential:
    """Two dense layers, from vectors (B, D) to (B, size)."""
    return nn.Sequential(nn.Linear(inputs, 4 * width), nn.ReLU(), nn.Linear(4 * width, size))


def train_classifier(data: Data, *, steps: int = 150, batch_size: int = 128, seed: int = 0) -> Classifier:
    """Train a `Classifier` on the labels of the training rows: AdamW, learning rate 2e-3.

    The same seed gives the same classifier. Without labels it stays at its random first weights. These are
    convolutional features all the same; unlike pixels or principal components, they tell images from a Gaussian with
    their mean and covariance.

    Args:
        data: Images, or vectors (D,) with labels.
        steps: Training steps.
        batch_size: Rows of a step.
        seed: Fixes weights and batches.

    Returns:
        The classifier, frozen.

    Raises:
        TypeError: If `data` is no `Data`.
        ValueError: If the data are neither images nor vectors with labels, or a number is out of range.
    """
    if not isinstance(data, Data):
        raise TypeError(f"a classifier is trained on a Data, such as fm.data.load(name), got {shown(data)}")
    at_least(0, steps=steps)
    at_least(1, batch_size=batch_size)
    check_seed(seed)
    if data.kind != "images" and not is_classified(data):
        raise ValueError(
            "a classifier needs images, or vectors (D,) with labels of several classes, and "
            f"{data.name} holds {data.kind} of shape {data.shape}{'' if data.classes else ' without labels'}"
        )
    with seeded_by(torch.device("cpu"), seed), torch.enable_grad():
        classifier = Classifier(data.shape, data.classes or 1)
        optimiser = torch.optim.AdamW(classifier.parameters(), lr=2e-3)
        labelled = data.batches(batch_size, seed=seed) if (data.classes or 1) > 1 else iter(())
        for _, batch in zip(range(steps), labelled, strict=False):
            optimiser.zero_grad()
            assert batch.label is not None
            F.cross_entropy(classifier(batch.x0), batch.label).backward()
            optimiser.step()
    classifier.whiten(data.draw(min(data.size or WHITENING, WHITENING), seed).x0)
    return classifier.eval().requires_grad_(False)


def is_classified(data: Data) -> bool:
    """Whether the data are images or vectors (D,) with labels of several classes, which a classifier can learn."""
    return (data.kind == "images" or (data.kind == "vectors" and len(data.shape) == 1)) and (data.classes or 1) > 1


def save_classifier(classifier: Classifier, path: str | Path) -> None:
    """Write weights and arguments of a classifier to a safetensors file (no pickle), atomically."""
    arguments = {"shape": list(classifier.shape), "classes": classifier.classes}
    known = json.dumps(
        {**arguments, "sha256": tensors_checksum(json.dumps(arguments, sort_keys=True), classifier.state_dict())}
    )
    with replacing(path) as temporary:
        save_tensors(temporary, classifier.state_dict(), {"classifier": known})


def load_classifier(path: str | Path) -> Classifier:
    """Read the classifier that `save_classifier` wrote.

    Args:
        path: The safetensors file.

    Returns:
        The classifier, frozen.

    Raises:
        ValueError: If the file is of another kind, or is damaged.
    """
    path = Path(path)
    try:
        with opened_tensors(path) as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            found = parse_json((file.metadata() or {}).get("classifier", ""))
        if wrong := mismatch(found, Arguments, "its description"):
            raise ValueError(wrong)
        expected = found.pop("sha256", None)
        if expected is not None and expected != tensors_checksum(json.dumps(found, sort_keys=True), tensors):
            raise ValueError("it is damaged: it has changed since it was written")
        # without memory first: the description must have the sizes of the tensors
        with torch.device("meta"):
            outline = Classifier(tuple(found["shape"]), found["classes"]).state_dict()
        if {name: value.shape for name, value in outline.items()} != {name: tensors[name].shape for name in tensors}:
            raise ValueError("its description does not fit its tensors")
    except (ValueError, RuntimeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(f"{path} holds no classifier of flowmaps ({error}); delete it to have one trained") from None
    classifier = Classifier(tuple(found["shape"]), found["classes"])
    classifier.load_state_dict(tensors)
    return classifier.eval().requires_grad_(False)


def classifier_features(classifier: Classifier) -> Features:
    """The features of a `Classifier`, named by its training data."""
    if not isinstance(classifier, Classifier):
        raise TypeError(f"expected a Classifier, such as train_classifier(data), got {shown(classifier)}")
    trained = "classifier trained on the data's labels"
    untrained = "network with random weights (the data has no labels)"
    name = f"whitened features of a small {trained if classifier.classes > 1 else untrained}"
    return Features(name, classifier.features, classifier)


def inception() -> Features:
    """The 2048 Inception features of the usual FID, by torchmetrics and torch-fidelity; weights are downloaded once.

    torch-fidelity downloads them from its own address to torch.hub's folder. They are a pickle, which torch reads.

    Returns:
        The features.

    Raises:
        ImportError: If torchmetrics or torch-fidelity is not installed.
        RuntimeError: If the weights cannot be downloaded.
    """
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        raise ImportError(f"Inception features need torchmetrics: {install('evaluate')}") from error
    try:
        network = FrechetInceptionDistance(feature=2048).inception
    except ModuleNotFoundError as error:
        raise ImportError("Inception features need torch-fidelity: pip install torchmetrics[image]") from error
    except OSError as error:
        raise RuntimeError(
            f"the weights of Inception could not be downloaded ({error}); leave `features` out to use a classifier of "
            "the data's own labels"
        ) from error

    def extract(x: Tensor) -> Tensor:
        pixels = ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return network(pixels.expand(-1, 3, -1, -1) if x.shape[1] == 1 else pixels)

    return Features("features of Inception", extract)
