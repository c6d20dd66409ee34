"""`python -m fmnist.predict`: what a finished run makes of pictures and arrays: classes, anomaly scores, images."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import fmnist
from fmnist import UserError
from fmnist.library.pictures import Images, files, read
from fmnist.program.arguments import typed_path, which_weights
from fmnist.program.files import replacing
from fmnist.program.output import printable, run_command
from fmnist.program.progress import progress
from fmnist.report.tables import csv_text
from fmnist.report.words import counted
from fmnist.view.views import Views

if TYPE_CHECKING:
    from fmnist.library.model import Model

BATCH = 2000  # images that the model is given at a time
COLUMNS = ("file", "row", "class", "probability")
NAMED = 5  # files that a line names, at most
EXAMPLES = """examples:
  python -m fmnist.predict outputs/mine shirt.jpg              the class of a picture, as CSV
  python -m fmnist.predict outputs/mine folder --probabilities --out classes.csv
  python -m fmnist.predict outputs/mine data/fashion-mnist/t10k-images-idx3-ubyte --json
  cat shirt.png | python -m fmnist.predict outputs/mine -
  python -m fmnist.predict outputs/vae folder --reconstructions outputs/rebuilt
  python -m fmnist.predict outputs/vae --samples 16 outputs/samples

Pictures of any size are made grey, brought to the size of the run without distortion, on black, and turned over if they
are dark on light: if the median of their outermost pixels is greater than the mean of the others. Of an array or an IDX
file all images are turned over, or none, as most of them are.

The status is 1 if a file could not be read: a line names it, and the others are done. It is 2 for any other mistake."""


@dataclass
class Rows:
    """The rows of a table, written as CSV or as a list in JSON while they are found."""

    stream: IO[str]
    as_json: bool
    begun: bool = False

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write some more."""
        if self.as_json:
            for row in rows:
                self.stream.write((",\n" if self.begun else "[\n") + json.dumps(row))
                self.begun = True
        elif rows:
            head, _, body = csv_text([_flat(row) for row in rows]).partition("\n")
            self.stream.write(body if self.begun else f"{head}\n{body}")
            self.begun = True

    def end(self) -> None:
        """Close the list."""
        if self.as_json:
            self.stream.write("\n]\n" if self.begun else "[]\n")


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row for CSV: a column for each class."""
    return {**{name: value for name, value in row.items() if name != "probabilities"}, **row.get("probabilities", {})}


class Asked:
    """What is asked of a model for each image."""

    def __init__(
        self, model: "Model", probabilities: bool, rebuilt: Path | None, views: Views | None = None
    ) -> None:  # fmt: skip
        self.model, self.probabilities, self.rebuilt, self.views = model, probabilities, rebuilt, views
        self.names = [printable(name) for name in model.names]
        self.saved = 0  # reconstructions
        self.columns = [f"class {name}" if name in COLUMNS else name for name in self.names]
        if model.classifies and rebuilt is not None:
            raise UserError(f"--reconstructions are for autoencoders, and {model.directory} is a classifier")
        if not model.classifies and views:
            raise UserError(f"--views are for classifiers, and {model.directory} is an autoencoder")
        if not model.classifies and probabilities:
            raise UserError(f"--probabilities are for classifiers, and {model.directory} is an autoencoder")
        if rebuilt is not None:
            rebuilt.mkdir(parents=True, exist_ok=True)

    def of(self, found: Sequence[tuple[str, int, Any]]) -> list[dict[str, Any]]:
        """Rows for images, given with their files and their places in these."""
        images = np.stack([image for _, _, image in found])
        rows: list[dict[str, Any]] = [{"file": name, "row": place} for name, place, _ in found]
        if self.model.classifies:
            shares = self.model.probabilities(images, self.views.text if self.views else None)
            classes = shares.argmax(-1) if self.views else self.model.predict(images)
            for row, chances, number in zip(rows, shares, classes.tolist(), strict=True):
                row |= {"class": self.names[number], "probability": _number(chances[number])}
                if self.probabilities:
                    row["probabilities"] = dict(zip(self.columns, map(_number, chances), strict=True))
            return rows
        for row, score in zip(rows, self.model.scores(images), strict=True):
            row["score"] = _number(score)
        if self.rebuilt is not None:
            for row, image in zip(rows, self.model.reconstruct(images), strict=True):
                row["reconstruction"] = str(save(image, self.rebuilt, f"{self.saved:05}-{_stem(row['file'])}"))
                self.saved += 1
        return rows


def _number(value: Any) -> float | None:
    """A number with the digits that float32 has; None where it is none."""
    return float(f"{value:.7g}") if isfinite(value) else None


def _stem(name: str) -> str:
    """The name of a file as part of the name of another."""
    return printable(Path(name).stem).strip("-") or "image"


def save(image: Any, folder: Path, name: str) -> Path:
    """Write an image in [0, 1] as a PNG file."""
    path = folder / f"{name}.png"
    with replacing(path, "wb") as file:
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(file, "PNG")
    return path


def readable(paths: Sequence[Path], model: "Model", as_is: bool, bad: list[Path]) -> Iterator[tuple[str, Images]]:
    """The images of each file. One that cannot be read is a line, and is added to `bad`. At the end a line says which
    files were dark on light."""
    dark: list[str] = []
    count = 0
    for path in paths:
        name = str(path) if str(path).isprintable() else printable(str(path))
        try:
            found = read(path, model.height, model.width, as_is)
        except (UserError, OSError) as error:
            reason = f"{path}: {error.strerror}" if isinstance(error, OSError) else error
            print(printable(f"error: {reason}"), file=sys.stderr)
            bad.append(path)
            continue
        if found.inverted:
            dark.append(name)
            count += found.inverted
        yield name, found
    if dark:
        more = f" and {len(dark) - NAMED} more" if len(dark) > NAMED else ""
        images = "1 image is" if count == 1 else f"{count:,} images are"
        print(f"{images} dark on light, and turned over (--as-is leaves them): {', '.join(dark[:NAMED])}{more}",
              file=sys.stderr)  # fmt: skip


def predict(model: "Model", paths: Sequence[Path], asked: Asked, rows: Rows, as_is: bool) -> list[Path]:
    """Write the rows of all files; which of them could not be read."""
    bad: list[Path] = []
    waiting: list[tuple[str, int, Any]] = []
    whole = model.stack.criterion.couples_rows  # what it says of an image depends on the others
    with progress(len(paths), 0, "file") as bar:
        for name, found in readable(paths, model, as_is, bad):
            waiting += [(name, place, image) for place, image in enumerate(found.images)]
            while len(waiting) >= BATCH and not whole:
                rows.add(asked.of(waiting[:BATCH]))
                waiting = waiting[BATCH:]
            bar.update()
    if waiting:
        rows.add(asked.of(waiting))
    return bad


@contextmanager
def output(path: Path | None) -> Iterator[IO[str]]:
    """Where the table goes: a file that is written whole or not at all, or standard output."""
    if path is None:
        yield sys.stdout
        return
    with replacing(path) as file:
        yield file


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.predict", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="What a finished run makes of pictures: classes with their probabilities, or of an autoencoder\n"
        "anomaly scores, reconstructions and samples. The run's data are not needed.",
    )  # fmt: skip
    parser.add_argument("run", type=typed_path, metavar="RUN", help="directory of a finished run")
    parser.add_argument("files", type=typed_path, nargs="*", metavar="FILE",
                        help="PNG, JPEG, .npy or IDX file (raw or .gz); a folder; - for standard input")  # fmt: skip
    parser.add_argument("--weights", type=which_weights, metavar="last|best|average|snapshot-N",
                        help="default: those the run was tested with")  # fmt: skip
    parser.add_argument("--probabilities", action="store_true", help="those of all classes, a column each")
    parser.add_argument("--views", type=Views, metavar="shift=N,flip",
                        help="the mean of the probabilities over views of each picture: moved by up to N pixels, down "
                        "and across, and turned left to right")  # fmt: skip
    parser.add_argument("--as-is", action="store_true", help="turn no picture over that is dark on light")
    parser.add_argument("--reconstructions", type=typed_path, metavar="FOLDER",
                        help="write what an autoencoder makes of each image, as PNG files")  # fmt: skip
    parser.add_argument("--samples", nargs=2, metavar=("N", "FOLDER"),
                        help="write N new images by a VAE as PNG files; by an autoencoder, like FILE")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    parser.add_argument("--json", action="store_true", help="a list in JSON instead of CSV")
    parser.add_argument("--out", type=typed_path, metavar="FILE", help="write the table there, not to standard output")
    arguments = parser.parse_args()
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for; its status."""
    if arguments.samples and arguments.views:
        raise UserError("--views are for classes, not for --samples")
    if not arguments.files and not arguments.samples:
        raise UserError("name a FILE or a folder, - for standard input, or --samples N FOLDER")
    model = fmnist.load(arguments.run, arguments.weights)
    asked = Asked(model, arguments.probabilities, arguments.reconstructions, arguments.views)
    paths, others = files(arguments.files)
    if arguments.files and not paths:
        raise UserError(f"{arguments.files[0]}: holds no PNG, JPEG, .npy or IDX file of images")
    if others:
        print(f"left out: {counted(others, 'file')} of another kind", file=sys.stderr)
    if arguments.samples:
        return _samples(model, arguments, paths)
    with output(arguments.out) as stream:
        rows = Rows(stream, arguments.json)
        bad = predict(model, paths, asked, rows, arguments.as_is)
        rows.end()
    return int(bool(bad))


def _samples(model: "Model", arguments: argparse.Namespace, paths: Sequence[Path]) -> int:
    """Write new images, and print the names of their files."""
    number, folder = arguments.samples[0], typed_path(arguments.samples[1])
    if not (number.isdecimal() and 0 < int(number) <= 100_000):
        raise UserError(f"--samples must be a whole number in 1..100000 and a folder, got {number!r}")
    bad: list[Path] = []
    like = [found.images for _, found in readable(paths, model, arguments.as_is, bad)]
    images = model.sample(int(number), arguments.seed, np.concatenate(like) if like else None)
    folder.mkdir(parents=True, exist_ok=True)
    for place, image in enumerate(images):
        print(printable(str(save(image, folder, f"sample-{place:05}"))))
    return int(bool(bad))


if __name__ == "__main__":
    run_command(main)
