"""A finished run as a model: `load`. It needs no data set: what the model must know of it stands in the record."""

import os
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmnist import UserError
from fmnist.config.schema import Config, kind
from fmnist.data.dataset import Dataset, Split, as_input, derive
from fmnist.library.images import rows
from fmnist.nn.layers import Linear
from fmnist.nn.losses import Classification
from fmnist.nn.models import Parts, build
from fmnist.nn.noise import Noise
from fmnist.nn.step import evaluating, outputs
from fmnist.program.arguments import which_weights
from fmnist.record.result import of_run, read_result, read_rows
from fmnist.sources.fetch import NAMES
from fmnist.train.restore import assemble, restore
from fmnist.train.stack import Stack
from fmnist.view.views import Views

CHUNK = 10_000  # images that are turned into numbers at a time
STAND_IN = 1000  # rows in the place of a full batch


def load(run: str | Path, weights: str | None = None) -> "Model":
    """The model of the run in a directory, in evaluation mode; its data set need not be on this machine.

    weights: "last", "best", "average" or "snapshot-N"; None: those that the run was tested with. Raises UserError where
    there is no such run, or where its weights are missing or damaged.
    """
    directory = Path(os.path.expanduser(run))
    try:
        weights = weights and which_weights(weights)
    except ArgumentTypeError as error:
        raise UserError(f"weights {error}") from None
    config, result = of_run(directory), read_result(directory) or {}

    def stand_in(kept: dict[str, Tensor]) -> Dataset:
        return _blank(*_images(directory, config, result, kept), config.batch_size, str(result.get("data") or ""))

    stack = restore(directory, weights, stand_in=stand_in)
    return Model(stack, config, directory, result)


class Model:
    """A trained model. What it gives are numpy arrays; where it takes images see `fmnist.library.images.rows`.

    config: of the run. names: of the classes, in the order of their numbers. height, width: of the images, in pixels.
    directory: of the run. metrics: those that the run ended with, by tag. stack: the network itself is `stack.model`.
    """

    def __init__(self, stack: Stack, config: Config, directory: Path, result: dict[str, Any]) -> None:
        self.stack, self.config, self.directory = stack, config, directory
        self.names: tuple[str, ...] = stack.dataset.names
        self.height, self.width = stack.dataset.height, stack.dataset.width
        self.metrics: dict[str, float] = result.get("metrics") or {}
        self._corruption = getattr(stack.model, "corrupt", None)
        if self._corruption is not None:  # images are taken as they are: the noise on them is for training
            stack.model.corrupt = torch.nn.Sequential()

    def __repr__(self) -> str:
        shown = [f"{tag} {value:.4f}" for tag, value in self.metrics.items() if tag in ("test/accuracy", "test/loss")]
        return f"<{self.config.model.name} of {self.directory}: {', '.join(shown) or 'not measured'}>"

    @cached_property
    def history(self) -> list[dict[str, float]]:
        """The rows of the run's record, one for each validated epoch: "epoch", "time" and the metrics by tag."""
        return [row for row in read_rows(self.directory) if row]

    @property
    def classifies(self) -> bool:
        """Whether it is a classifier; all others reconstruct images."""
        return isinstance(self.stack.criterion, Classification)

    def predict(self, images: Any) -> np.ndarray:
        """The class number of each image, (n,) int64. `names[number]` is its name."""
        criterion = self._classification()
        found = [criterion.predict(output)[0] for output, *_ in self._outputs(images)]
        return _joined(found, torch.zeros(0, dtype=torch.int64))

    def probabilities(self, images: Any, views: str | None = None) -> np.ndarray:
        """The softmax of the outputs, (n, classes). With loss=report_rows the model gives a distribution over the
        images for each class: this is the share of each class, and depends on the other images, as `predict` does.
        views: such as "shift=1,flip": the mean over these views of each image (see fmnist.view.views)."""
        criterion = self._classification()
        each = Views(views).of(self.height, self.width) if views else [None]
        found = [criterion.logits(output).float().softmax(-1)[0]
                 for view in each for output, *_ in self._outputs(images, view)]  # fmt: skip
        joined = _joined(found, torch.zeros(0, len(self.names))).reshape(len(each), -1, len(self.names))
        mean: np.ndarray = joined.mean(0) if views else joined[0]
        return mean

    def reconstruct(self, images: Any) -> np.ndarray:
        """What an autoencoder makes of each image, (n, height, width) in [0, 1]; a variational one decodes the mean of
        its code. No noise is added: a denoising autoencoder takes noisy images, and removes the noise."""
        return self.decode(self.codes(images))

    def codes(self, images: Any) -> np.ndarray:
        """The code of each image by an autoencoder, (n, code); of a variational one the mean of its Gaussian."""
        model = self._autoencoder("has no codes")
        with evaluating(model):
            empty = model.encode(torch.zeros(1, self.height * self.width, **self._factory()))[0, :0]
            found = [model.encode(chunk)[0] for chunk in self._chunks(images, pixels=False)]
        return _joined(found, empty)

    def decode(self, codes: Any) -> np.ndarray:
        """The images of codes (n, code), (n, height, width) in [0, 1]."""
        model = self._autoencoder("decodes nothing")
        given = torch.as_tensor(np.asarray(codes)).to(**self._factory())
        with evaluating(model):
            found = [model.decode(chunk)[0].sigmoid() for chunk in torch.split(given, CHUNK) if len(chunk)]
        images = _joined(found, torch.zeros(0, self.height * self.width))
        return images.reshape(-1, self.height, self.width)

    def scores(self, images: Any) -> np.ndarray:
        """How unlike the training images each image is, (n,): the reconstruction error, by the loss that the
        autoencoder was trained with. Logarithmic losses count above the least that they can be for the image."""
        self._autoencoder("has no anomaly scores")
        self.stack.start_noise("test")
        found = [next(iter(self.stack.criterion.scores(*output).values()))[0] for output in self._outputs(images)]
        return _joined(found, torch.zeros(0))

    def sample(self, n: int, seed: int = 0, like: Any = None) -> np.ndarray:
        """New images, (n, height, width) in [0, 1]: of a variational autoencoder decoded from its prior. like: images;
        then codes are drawn from the Gaussian that fits theirs. A plain autoencoder has no prior and needs them."""
        model = self._autoencoder("draws no images")
        own = derive(seed, "samples")
        if like is not None:
            known = self.codes(like).astype(np.float64)
            if len(known) < 2:
                raise UserError(f"like must be two images or more, got {len(known)}")
            spread = np.atleast_2d(np.cov(known.T))
            return self.decode(np.random.default_rng(own).multivariate_normal(known.mean(0), spread, size=n))
        if not hasattr(model, "from_prior"):
            raise UserError(f"{self.directory}: a plain autoencoder has no prior to sample from: like=IMAGES sets one")
        generator = torch.Generator().manual_seed(own)
        with evaluating(model):
            normal = torch.randn(n, model.width, generator=generator).to(**self._factory())
            codes = model.from_prior(normal, generator)
        return self.decode(codes.view(-1, model.width).cpu())

    def __reduce__(self) -> tuple[Any, ...]:
        """It is pickled, and copied, as its config and weights; neither data nor buffers of training come along."""
        known = {"metrics": self.metrics, "kernels": self.stack.step.settings()}
        size = self.height, self.width, self.names
        weights = {name: weight.cpu() for name, weight in self.stack.weights(0).items()}
        return _again, (self.config, self.directory, known, size, weights, self.history)

    def _classification(self) -> Classification:
        criterion = self.stack.criterion
        if not isinstance(criterion, Classification):
            raise UserError(f"{self.directory} is an autoencoder and knows no classes: reconstruct, codes, scores")
        return criterion

    def _autoencoder(self, lack: str) -> Any:
        model: Any = self.stack.model
        if self.classifies or not (hasattr(model, "encode") and hasattr(model, "decode")):
            raise UserError(f"{self.directory} is no autoencoder: its model, {self.config.model.name}, {lack}")
        return model

    def _factory(self) -> dict[str, Any]:
        return {"dtype": self.stack.dtype, "device": self.stack.optimizer.flat.data.device}

    def _chunks(self, images: Any, pixels: bool = True) -> Iterator[Tensor]:
        """Images as the model takes them, some at a time. pixels: as bytes, where its products take them."""
        found = rows(images, self.height, self.width)
        for chunk in torch.split(found, len(found) if self.stack.criterion.couples_rows else CHUNK):
            if len(chunk) and chunk.dtype == torch.uint8:
                chunk = chunk.to(self._factory()["device"])
                yield chunk if pixels and self.stack.step.takes_pixels else as_input(chunk, self.stack.dtype)
            elif len(chunk):
                yield chunk.to(**self._factory())

    def _outputs(self, images: Any, view: Any = None) -> Iterator[tuple[Any, Tensor, Tensor]]:
        """The model's output for images, as evaluation computes it: see `fmnist.nn.step.outputs`. view: a function that
        changes them."""
        for chunk in self._chunks(images):
            chunk = chunk if view is None else view(chunk)
            labels = torch.zeros(len(chunk), dtype=torch.int64, device=chunk.device)
            yield from outputs(self.stack.model, self.stack.criterion, chunk, labels, self.stack.common.precision)


def _joined(found: list[Tensor], empty: Tensor) -> np.ndarray:
    """Tensors one after another as an array; `empty` where there are none."""
    joined: np.ndarray = torch.cat(found or [empty]).cpu().numpy()
    return joined


def _again(
    config: Config, directory: Path, known: dict[str, Any], size: tuple[int, int, tuple[str, ...]],
    weights: dict[str, Tensor], history: list[dict[str, float]],
) -> Model:  # fmt: skip
    """The model that was pickled."""
    stack = assemble([replace(config, device="auto")], data=_blank(*size, config.batch_size))
    stack.step.go_on_with(known["kernels"])
    stack.load_weights(0, weights)
    stack.model.eval()
    model = Model(stack, config, directory, known)
    model.history = history
    return model


def _blank(height: int, width: int, names: tuple[str, ...], batch_size: int | None, digest: str = "") -> Dataset:
    """A data set of black images in the place of a run's own: none of them takes memory, and batches are as long."""
    count = min(batch_size or STAND_IN, STAND_IN)
    images, labels = (torch.zeros(1, *size, dtype=kind).expand(count, *size)
                      for size, kind in (((height * width,), torch.uint8), ((), torch.int64)))  # fmt: skip
    split = Split(images, labels)
    return Dataset(split, None, split, height, width, len(names), names, digest=digest)


def _images(
    directory: Path, config: Config, result: dict[str, Any], kept: dict[str, Tensor]
) -> tuple[int, int, tuple[str, ...]]:
    """Height, width and the names of the classes that a run was trained on, by its record. What an older record lacks
    is known for Fashion-MNIST, or told by the shapes of the weights."""
    inputs, classes = _ends(config, kept)
    if not kind(config.model.name).classifies:
        classes = 0  # the weights do not tell
    if recorded := result.get("images"):
        if not _fit(recorded, inputs, classes):
            raise UserError(f"{directory / 'result.json'} is damaged: its images are not those of the weights")
        return recorded["height"], recorded["width"], tuple(recorded["names"])
    side = isqrt(inputs)
    names = NAMES if config.data.name == "fashion" else tuple(map(str, range(classes)))
    return (side, side, names) if side**2 == inputs else (1, inputs, names)


def _fit(recorded: Any, inputs: int, classes: int) -> bool:
    """Whether what a record says of the images fits the weights. classes: 0 where these do not tell."""
    if not isinstance(recorded, dict):
        return False
    height, width, names = (recorded.get(name) for name in ("height", "width", "names"))
    if not (type(height) is type(width) is int and height > 0 and height * width == inputs):
        return False
    return isinstance(names, list) and all(isinstance(n, str) for n in names) and len(names) == (classes or len(names))


def _ends(config: Config, kept: dict[str, Tensor]) -> tuple[int, int]:
    """How many numbers the first layer takes and the last one gives, by the shapes of a run's weights."""
    model = build(config.model, Parts.of([config], Noise(1), device="meta"), 1, 1)
    linear = [kept[f"{name}.weight"] for name, layer in model.named_modules() if isinstance(layer, Linear)]
    return linear[0].shape[1], linear[-1].shape[0]
