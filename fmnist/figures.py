"""`python -m fmnist.figures`: the pictures of finished autoencoders again; latent spaces side by side.

Of a classifier mistakes.json again, from which a report draws.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import fmnist.launch.threads  # noqa: F401 - before torch

from matplotlib.figure import Figure

from fmnist import UserError
from fmnist.nn.models import VAE, Autoencoder
from fmnist.program.arguments import typed_path
from fmnist.program.files import replacing
from fmnist.program.output import printable, run_command
from fmnist.program.reading import check_plain
from fmnist.record.result import read_result
from fmnist.report.gallery import FORMATS
from fmnist.train.restore import restore
from fmnist.train.stack import Stack
from fmnist.view.metrics import holes
from fmnist.view.mistakes import mistakes, write
from fmnist.view.pictures import GRID, Artist, draw, plane
from fmnist.view.tally import tally


def compare(artists: Sequence[Artist]) -> Figure:
    """Latent spaces side by side: the maps, and what is decoded over their planes. For codes of two numbers."""
    figure = Figure(figsize=(6 * len(artists), 11), layout="constrained")
    for column, artist in enumerate(artists):
        maps, planes = (figure.add_subplot(2, len(artists), row * len(artists) + column + 1) for row in (0, 1))
        points = artist.codes()
        artist.scatter(maps, points)
        maps.set_title(
            f"{artist.stack.configs[artist.run].model.name}: {holes(points):.0%} of the space without an image"
        )
        planes.imshow(artist.tile(artist.decode(plane(points)), GRID), cmap="gray", vmin=0, vmax=1)
        planes.set_axis_off()
        planes.set_title("decoded over the same range", fontsize=9)
    return figure


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.figures",
        description="Draw a finished autoencoder's pictures again; with more runs of 2-d codes, compare their spaces. "
        "Of a classifier write mistakes.json, from which fmnist.report draws what it gets wrong.",
    )
    parser.add_argument("runs", type=typed_path, nargs="+", metavar="RUN", help="directories of finished runs")
    parser.add_argument(
        "--folder", type=typed_path, help="where to put a folder for each run; default: figures/ in the run"
    )
    parser.add_argument(
        "--out", type=typed_path, default=Path("outputs/latent_spaces.png"), help="where to put a comparison"
    )
    parser.add_argument("--data", metavar="DIR", help="where the runs' data lie now, if they were moved")
    arguments = parser.parse_args()
    try:
        _check(arguments)
        artists = []
        for directory in arguments.runs:
            stack = restore(directory, data=arguments.data)
            check_plain(directory, ["figures"])
            folder = arguments.folder / directory.resolve().name if arguments.folder else None
            if not isinstance(stack.model, Autoencoder | VAE):
                print(printable(str(_mistakes(stack, directory, folder or directory))))
                continue
            for file in draw(stack, 0, folder or directory / "figures").values():
                print(printable(str(file)))
            artists.append(Artist(stack, 0))
        if len(artists) > 1:
            if any(artist.width != 2 for artist in artists):
                raise UserError("only codes of two numbers can be compared: model.hidden=[...,2] or model.latent=2")
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            with replacing(arguments.out, "wb") as stream:
                compare(artists).savefig(stream, dpi=110, format=arguments.out.suffix[1:])
            print(printable(str(arguments.out)))
    except OSError as error:
        place = f"{error.filename}: {error.strerror}"
        print(printable(f"error: {place} (--folder and --out name other places)"), file=sys.stderr)
        sys.exit(1)


def _mistakes(stack: Stack, directory: Path, folder: Path) -> Path:
    """Write into a folder what a classifier gets wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    epoch = (read_result(directory) or {})["epoch"]
    return write(mistakes(stack, 0, tally(stack, stack.dataset.test)), folder, epoch)


def _check(arguments: argparse.Namespace) -> None:
    """Raise UserError where a picture could not be written, or would replace that of another run."""
    if arguments.out.suffix not in FORMATS:
        raise UserError(f"--out must end in one of {', '.join(FORMATS)}, got {arguments.out}")
    names = Counter(directory.name for directory in {directory.resolve() for directory in arguments.runs})
    if arguments.folder and (twice := [name for name, count in names.items() if count > 1]):
        raise UserError(f"--folder is for runs whose directories have different names, got several named {twice[0]}")


if __name__ == "__main__":
    run_command(main)
