"""`python -m fmnist.data`: fetch and verify Fashion-MNIST, or convert other data to IDX files."""

import argparse
import logging
import re
import sys
from pathlib import Path

from fmnist.program.arguments import typed_path
from fmnist.sources import fetch
from fmnist.sources.idx import read

EXAMPLES = """examples:
  python -m fmnist.data convert mnist.npz data/mnist          arrays x_train, y_train, x_test, y_test
  python -m fmnist.data convert mnist_c/fog data/fog          train_images.npy, train_labels.npy, test_images.npy ...
  python -m fmnist.data convert mnist_png data/mnist          train/CLASS/*.png and test/CLASS/*.png
  python -m fmnist.data convert photos data/photos --test-share 0.2 --size 28x28       CLASS/*.jpg
then
  python train.py data=idx data.dir=data/mnist
  python -m fmnist.evaluate RUN --test data/fog
"""


def main() -> None:
    """The command line."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if sys.argv[1:2] == ["convert"]:
        _convert(sys.argv[2:])
    else:
        _verify(sys.argv[1:])


def _verify(words: list[str]) -> None:
    """Fetch Fashion-MNIST, verify it and say where it is."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.data",
        description="Fetch Fashion-MNIST if it is not at hand, verify its files and print where they are.",
        epilog="python -m fmnist.data convert --help: other data, as arrays or pictures, to IDX files",
    )
    place = "existing folder that has the files or gets them (default: data/ of the project)"
    parser.add_argument("dir", nargs="?", metavar="DIR", help=place)
    arguments = parser.parse_args(words)
    files = fetch.fashion(arguments.dir)
    for name in fetch.FASHION:
        path, rows = files[name].path, files[name].shape[0]
        print(f"{path if path.exists() else name}  {rows:,} rows  sha256 {fetch.FASHION[name][:12]}  ok")


def _convert(words: list[str]) -> None:
    """Write IDX files, read them back, and say what is in them."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.data convert",
        description="Write arrays or pictures as the IDX files that data=idx reads.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = "an .npz; a folder of .npy; a folder of PNG or JPEG files by class"
    share = "for images that are not parted: the share of each class that is for testing"
    size = "height and width that pictures are brought to, or that rows of numbers in arrays have"
    parser.add_argument("source", type=typed_path, metavar="SOURCE", help=source)
    parser.add_argument(
        "target", type=typed_path, metavar="TARGET", help="the folder for the IDX files and classes.txt"
    )
    parser.add_argument("--test-share", type=float, metavar="SHARE", help=share)
    parser.add_argument("--seed", type=int, default=0, help="of that share, and of the order of pictures (default: 0)")
    parser.add_argument("--size", type=_size, metavar="HxW", help=size)
    arguments = parser.parse_args(words)
    from fmnist.sources.convert import convert  # numpy and Pillow come with it

    for path in convert(arguments.source, arguments.target, arguments.test_share, arguments.seed, arguments.size):
        print(f"{path}  {_content(path)}")


def _content(path: Path) -> str:
    """What a file that was written has in it, as it is read."""
    if path.suffix == ".txt":
        return f"{len(path.read_text(encoding='utf-8').splitlines())} names of classes"
    file = read(path, "images" in path.name)
    if file.labels:
        return f"{file.shape[0]:,} labels, {len(file.labels)} classes"
    return f"{file.shape[0]:,} images of {file.shape[1]}x{file.shape[2]}"


def _size(text: str) -> tuple[int, int]:
    """Height and width of "28x28"."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTH, got {text!r}")
    return int(found[1]), int(found[2])
