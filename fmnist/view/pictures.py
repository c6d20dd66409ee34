"""Pictures of autoencoders: reconstructions, samples, interpolations, latent spaces."""

import logging
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fmnist.data.dataset import as_input, derive
from fmnist.nn.models import VAE, Autoencoder
from fmnist.nn.step import evaluating
from fmnist.program.files import replacing
from fmnist.view.board import Board
from fmnist.view.measure import Seen, as_warning, codes

# Ten colours that stay apart for the colour-blind (Paul Tol's "muted" scheme and a dark grey).
COLOURS = ["#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#555555"]
GRID = 15  # images to a side of the decoded plane
SCATTER = 5000  # points of a map
LABEL = (0.17, 0.045)  # width and height of a label on a map, as shares of the map


def illustrate(stack: Seen, run: int, folder: Path, board: Board, epoch: int, log: logging.Logger) -> None:
    """Draw all pictures of one run of a stack into `folder`, and show them. One that cannot be drawn is a warning that
    names it."""
    with as_warning(log, "figures"):
        for name, figure in _pictures(Artist(stack, run)).items():
            with as_warning(log, f"figures/{name}.png"):
                board.picture(f"figures/{name}", write(figure, name, folder).read_bytes(), epoch)


def draw(stack: Seen, run: int, folder: Path) -> dict[str, Path]:
    """Write all pictures of one run of a stack into `folder`. Returns their files by name. An OSError names one."""
    return {name: write(figure, name, folder) for name, figure in _pictures(Artist(stack, run)).items()}


def _pictures(artist: "Artist") -> dict[str, Callable[[], Figure]]:
    """What there is to draw of a run, by name."""
    drawn = {"reconstructions": artist.reconstructions, "interpolation": artist.interpolation}
    if artist.model.corrupt:
        drawn["denoised"] = artist.denoised
    if isinstance(artist.model, VAE):
        drawn["samples"] = artist.samples
    if artist.width == 2:
        drawn |= {"map": artist.map, "plane": artist.plane}
    return drawn


def write(figure: Callable[[], Figure], name: str, folder: Path) -> Path:
    """Draw a picture into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.png"
    with replacing(file, "wb") as stream:
        figure().savefig(stream, dpi=110)
    return file


class Artist:
    """Draws one run of a stack, from test images and in evaluation mode."""

    def __init__(self, stack: Seen, run: int) -> None:
        self.stack, self.run, self.dataset = stack, run, stack.dataset
        self.model = cast(Autoencoder | VAE, stack.model)
        self.generator = torch.Generator().manual_seed(derive(stack.configs[run].seed, "figures"))
        self.width = self._call(self.model.encode, self._images([0])).shape[-1]

    def _call(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """function(x) in evaluation mode for this run alone, on the CPU: x (n, features) -> (n, ...)."""
        self.stack.start_noise("figures")
        with evaluating(self.model):
            y = function(x.to(self.dataset.test.images.device, self.stack.dtype))
        return (y[self.run] if y.dim() == 3 else y).cpu()

    def _images(self, rows: Sequence[int]) -> Tensor:
        return as_input(self.dataset.test.images[list(rows)], self.stack.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Images of codes: (n, code) -> (n, pixels) in [0, 1]."""
        return self._call(self.model.decode, z).sigmoid()

    def codes(self) -> Tensor:
        """The codes of the test images, (n, code)."""
        return codes(self.stack, self.dataset.test)[self.run].cpu()

    def _one_of_each(self, number: int = 0) -> list[int]:
        """A test image of each class: the one of that number, or the last where there are fewer."""
        labels = self.dataset.test.labels.cpu()
        rows = [(labels == c).nonzero().flatten().tolist() for c in range(self.dataset.classes)]
        return [own[min(number, len(own) - 1)] for own in rows if own]

    def reconstructions(self) -> Figure:
        """One test image of each class, its reconstruction above it, as in the report."""
        x = self._images(self._one_of_each())
        return self._rows({"reconstruction": self.decode(self._call(self.model.encode, x)), "original": x.cpu()})

    def denoised(self) -> Figure:
        """What the model was shown, what it made of it, and the clean image."""
        x = self._images(self._one_of_each())
        shown = self._call(self.model.corrupt, x)  # the same noise as in encode: each call seeds it anew
        return self._rows({"shown": shown, "denoised": self.decode(self._call(self.model.encode, x)), "clean": x.cpu()})

    def samples(self) -> Figure:
        """Images decoded from the prior."""
        normal = torch.randn(8 * 16, self.width, generator=self.generator)
        model = cast(VAE, self.model)
        z = self._call(lambda normal: model.from_prior(normal, self.generator), normal)
        return self._grid(self.decode(z), 16, "decoded from the prior")

    def interpolation(self) -> Figure:
        """Images decoded along straight lines between the codes of two test images."""
        rows = self._one_of_each(1)
        pairs = list(zip(rows[::2], rows[1::2], strict=False)) or [(rows[0], rows[0])]
        lines = []
        for start, end in pairs:
            z = self._call(self.model.encode, self._images([start, end]))
            lines.append(torch.stack([torch.lerp(z[0], z[1], share) for share in torch.linspace(0, 1, 12).tolist()]))
        return self._grid(self.decode(torch.cat(lines)), 12, "from one test image's code to another's")

    def map(self) -> Figure:
        """Where the test images lie in a code of two numbers, coloured by class."""
        figure = Figure(figsize=(6.5, 6), layout="constrained")
        self.scatter(figure.subplots(), self.codes())
        return figure

    def plane(self) -> Figure:
        """The images decoded from a code of two numbers, over the range of the test images' codes."""
        return self._grid(self.decode(plane(self.codes())), GRID, "decoded over the plane of codes")

    def scatter(self, axes: Any, points: Tensor) -> None:
        """Points (n, 2) of the test images with their classes' names at their medians."""
        shown, labels = points[:SCATTER].numpy(), self.dataset.test.labels[:SCATTER].cpu().numpy()
        groups = {c: shown[labels == c] for c in range(len(self.dataset.names))}
        groups = {c: own for c, own in groups.items() if len(own)}
        places = apart(np.stack([np.median(own, 0) for own in groups.values()]), np.ptp(shown, 0) * LABEL)
        for (c, own), place in zip(groups.items(), places, strict=True):
            colour = COLOURS[c % len(COLOURS)]
            axes.scatter(own[:, 0], own[:, 1], s=3, alpha=0.5, color=colour, linewidths=0)
            box = {"facecolor": "white", "edgecolor": colour, "alpha": 0.85, "boxstyle": "round,pad=0.2"}
            name = self.dataset.names[c]
            axes.text(*place, name, fontsize=7, ha="center", va="center", bbox=box, parse_math=False)
        axes.set_xlabel("first number of the code")
        axes.set_ylabel("second number of the code")

    def _rows(self, rows: dict[str, Tensor]) -> Figure:
        """Named rows of images under one another."""
        figure = Figure(figsize=(10, 1.05 * len(rows)), layout="constrained")
        for axes, (name, images) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows.items(), strict=True):
            axes.imshow(self.tile(images, len(images)), cmap="gray", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_ylabel(name, fontsize=8)
        return figure

    def _grid(self, images: Tensor, columns: int, title: str) -> Figure:
        tiled = self.tile(images, columns)
        figure = Figure(figsize=(8, 0.4 + 8 * tiled.shape[0] / tiled.shape[1]), layout="constrained")
        axes = figure.subplots()
        axes.imshow(tiled, cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        axes.set_title(title, fontsize=9)
        return figure

    def tile(self, images: Tensor, columns: int) -> np.ndarray:
        """Images (n, pixels) as one picture, row after row: (height, width)."""
        from torchvision.utils import make_grid

        stacked = images.float().view(-1, 1, self.dataset.height, self.dataset.width)
        grid: Tensor = make_grid(stacked, nrow=columns, padding=0)
        return grid[0].numpy()


def plane(points: Tensor) -> Tensor:
    """GRID x GRID codes over the range of two-dimensional codes (n, 2), without the outermost percent: (GRID^2, 2)."""
    bounds = torch.quantile(points.double(), torch.tensor([0.01, 0.99], dtype=torch.float64), dim=0)
    low, high = bounds
    across = torch.linspace(float(low[0]), float(high[0]), GRID)
    down = torch.linspace(float(high[1]), float(low[1]), GRID)  # the second number grows upwards, as in the map
    return torch.cartesian_prod(down, across).flip(1)


def apart(places: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The middles of labels (n, 2), moved up and down until none lies over another. size: of a label, (2,)."""
    places = places.copy()
    for _ in range(100):
        over = [(a, b) for a, b in combinations(range(len(places)), 2) if (abs(places[b] - places[a]) < size).all()]
        if not over:
            break
        for a, b in over:
            low, high = (a, b) if places[a, 1] <= places[b, 1] else (b, a)
            push = (size[1] - (places[high, 1] - places[low, 1])) * 0.51
            places[low, 1] -= push
            places[high, 1] += push
    return places
