"""Fuzzing with coverage, by atheris: bytes of every kind for all that reads files or words of others.

python tests/fuzz/fuzz.py READER [--seconds S | --runs N]

A reader may refuse what it is given, by UserError or OSError and by what its description says. Anything else is a
finding: its input is kept in .fuzz/, and the status is not 0. Inputs that reach new code are kept in .fuzz/READER/.
"""

import argparse
import gzip
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "sweep"), str(ROOT / "tests")]
KEPT = ROOT / ".fuzz"
CORPUS = Path(__file__).with_name("corpus")
Read = Callable[[bytes], None]


def idx(folder: Path) -> Read:
    """An IDX file; the first byte says whether it is read as images."""
    from fmnist.sources.idx import read

    file = folder / "train-images-idx3-ubyte"

    def one(data: bytes) -> None:
        file.write_bytes(data[1:])
        read(file, data[:1] < b"a")

    return one


def gzipped(folder: Path) -> Read:
    """A packed IDX file: bytes that are to be packed, or are already; the first byte says which."""
    from fmnist.sources.idx import read

    file = folder / "train-images-idx3-ubyte.gz"

    def one(data: bytes) -> None:
        file.write_bytes(data[1:] if data[:1] < b"a" else gzip.compress(data[1:], 1))
        read(file, data[:1].lower() == b"a")

    return one


def result(folder: Path) -> Read:
    """A run's result.json, as a report, evaluate and a run that goes on read it."""
    from fmnist import UserError
    from fmnist.record.result import check_data, of_run
    from fmnist.report.comparison import comparisons, read_one
    from fmnist.report.tables import numbers, summary

    def one(data: bytes) -> None:
        (folder / "result.json").write_bytes(data)
        for comparison in (found := comparisons([read_one(folder)])):
            summary(comparison).markdown()
        numbers(found)
        with suppress(UserError):
            check_data(folder, "0")
        of_run(folder)

    return one


def metrics(folder: Path) -> Read:
    """A run's metrics.jsonl, as a report reads it (ValueError) and as a run that goes on writes it anew."""
    from fmnist.config.schema import Config
    from fmnist.mirror.summaries import of_row
    from fmnist.record.record import _line
    from fmnist.record.result import read_rows
    from fmnist.report import records

    def one(data: bytes) -> None:
        (folder / "metrics.jsonl").write_bytes(data)
        for row in read_rows(folder):
            if row:
                _line(row)
                of_row(Config(), "validation", row)
        with suppress(ValueError):
            for row in records.rows(folder):
                int(row["epoch"])

    return one


def checkpoint(folder: Path) -> Read:
    """A checkpoint, damaged or with the sum that belongs to its bytes."""
    from fmnist.program import packing
    from fmnist.record.checkpoint import load

    file = folder / "last.safetensors"

    def one(data: bytes) -> None:
        file.write_bytes(packing._summed(data[1:]) if data[:1] < b"a" else data[1:])
        load(file)

    return one


def archive(folder: Path) -> Read:
    """A file of the records of runs: bytes that are to be packed, or are already; the first byte says which."""
    from fmnist.replication.archive import pack, unpack

    file = folder / "study.jsonl.gz"

    def one(data: bytes) -> None:
        file.write_bytes(data[1:] if data[:1] < b"a" else gzip.compress(data[1:], 1))
        runs = unpack(file)
        pack(runs, folder / "again.jsonl.gz")

    return one


def study(folder: Path) -> Read:
    """Optuna's journal of a search, and what the search makes of its trials."""
    from hydra_plugins._search import FILE, Search
    from sweep.searches import SPACE, space_of

    space = space_of(SPACE, "optim=adam,sgd", "optim.momentum=interval(0,0.9)")

    def one(data: bytes) -> None:
        (folder / FILE).write_bytes(data)
        search = Search(space, "random", 0)
        search.open(folder, "validation accuracy", "maximize", ())
        with search:
            trials = search.batch(4, 4)
            search.repeated(trials)
            for trial in trials:
                search.in_words(trial)
                search.directories(trial)

    return one


def overrides(_: Path) -> Read:
    """Words of a command line (HydraException): any text can be quoted so that it means itself."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from fmnist.launch.commands import expanded, in_shell, quoted, quoted_anew
    from fmnist.launch.names import job_name, parser, sweep_name

    def one(data: bytes) -> None:
        text = data.replace(b"\0", b"").decode(errors="surrogateescape")  # which ends an argument
        words = text.split("\n")
        quoted_anew(words)
        in_shell(*expanded(words))
        with suppress(HydraException):
            names = sweep_name(words), job_name(words, words)
            assert not [name for name in names if "/" in name or name in ("", ".", "..")], names
        if text != "???" and text.isprintable():
            meant = OmegaConf.create({"a": parser().parse_override(quoted("a", text)).value()}).a
            assert meant == text, (meant, text)

    return one


def config(_: Path) -> Read:
    """A config as JSON, over the default one."""
    import torch  # noqa: F401 - a device is looked for: not within an input, which has a time limit

    from fmnist.config.parse import check_machine, config_hash, parse

    def one(data: bytes) -> None:
        try:
            given = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(given, dict):
            made = parse({"model": {"name": "mlp"}, "data": {"name": "fashion"}, "optim": {"name": "adam"}} | given)
            assert len(config_hash(made)) == 12
            check_machine(made)

    return one


def pictures(folder: Path) -> Read:
    """A picture, or an array of images, as predict reads them; the first byte says whether dark on light stays so."""
    from fmnist.library.pictures import read

    def one(data: bytes) -> None:
        (folder / "image").write_bytes(data[1:])
        images, inverted = read(folder / "image", 5, 4, data[:1] < b"a")
        assert images.shape == (len(images), 5, 4), images.shape
        assert images.dtype == "uint8", images.dtype
        assert inverted <= len(images)

    return one


READERS = {
    "idx": idx, "gzip": gzipped, "result": result, "metrics": metrics, "checkpoint": checkpoint, "archive": archive,
    "study": study, "overrides": overrides, "config": config, "pictures": pictures,
}  # fmt: skip


def seeds(reader: str) -> dict[str, bytes]:
    """Inputs that are made, beside those in corpus/."""
    if reader == "pictures":
        return _pictures()
    if reader != "checkpoint":
        return {}
    import torch

    from fmnist.program.packing import packed

    weights = {"0.weight": torch.ones(2, 3), "0.bias": torch.zeros(2)}
    state = {
        "config_hash": "0",
        "epoch": 1,
        "seconds": 0.5,
        "best": {"epoch": 1, "value": float("inf"), "weights": weights},
    }
    return {"whole": b"A" + packed(state | {"weights": weights, "optimizer": {"steps": 3}, "average": None})}


def _pictures() -> dict[str, bytes]:
    """A file of each kind."""
    import numpy as np
    from PIL import Image

    pixels = np.arange(40, dtype=np.uint8).reshape(2, 5, 4)
    found = {"npy": io.BytesIO(), "png": io.BytesIO(), "jpeg": io.BytesIO()}
    np.save(found["npy"], pixels / 255)
    for kind in ("png", "jpeg"):
        Image.fromarray(255 - pixels[0]).save(found[kind], kind)
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 4]) + pixels.tobytes()
    return {"idx": b"A" + idx} | {name: b"b" + stream.getvalue() for name, stream in found.items()}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--seconds", type=int, default=60, help="how long (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried; 0: by chance")
    parser.add_argument("--runs", type=int, help="how many inputs, instead")
    arguments = parser.parse_args()
    try:
        import atheris
    except ImportError:
        print("atheris is not installed: .venv/bin/pip install '.[fuzz]' brings it")
        return
    from fmnist import UserError

    name = arguments.reader
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    with atheris.instrument_imports(include=["fmnist", "hydra_plugins"]):
        read = READERS[name](folder)

    def one(data: bytes) -> None:
        with suppress(UserError, OSError):
            read(data)

    known = KEPT / name
    known.mkdir(parents=True, exist_ok=True)
    for seed, content in seeds(name).items():
        (known / seed).write_bytes(content)
    limit = f"-runs={arguments.runs}" if arguments.runs else f"-max_total_time={arguments.seconds}"
    options = [limit, f"-seed={arguments.seed}", "-max_len=4096", "-timeout=120", "-rss_limit_mb=4096",
               "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={KEPT / name}-"]  # fmt: skip
    words = CORPUS / f"{name}.dict"
    corpus = CORPUS / name
    atheris.Setup(
        [
            sys.argv[0],
            *options,
            *([f"-dict={words}"] if words.exists() else []),
            str(known),
            *([str(corpus)] if corpus.exists() else []),
        ],
        one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
