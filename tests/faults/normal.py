"""What a run or a sweep has left, so that two can be compared: a digest of each file, less what time may change.

All that is left out is written down here, with its reason. Whatever else differs is a difference.
"""

import csv
import hashlib
import io
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WHEN = "when it was, or how long it took"
WHO = "the checkout may change while faults are tried; git may be what a fault has taken away"
SHARE = "where a sweep has fewer runs left to train, each may get more threads: see README, Machines"
FIELDS: dict[str, dict[str, str]] = {  # file: what is left out of it, and why
    "metrics.jsonl": {"time": WHEN},
    "result.json": {"seconds": WHEN, "commit": WHO, "commits": WHO, "machine.threads": SHARE},
    "last": {"seconds": WHEN},  # a checkpoint, whatever its format
    "leaderboard.csv": {"seconds": WHEN},
    "events": {"wall_time": WHEN, "start_time_secs": WHEN, "end_time_secs": WHEN, "group_name": "where it lies"},
    "study.jsonl": {"datetime_start": WHEN, "datetime_complete": WHEN},
}
CONTENTS: dict[str, str] = {  # files that must be there, with any content
    "train.log": "it tells what happened: the fault, and that the run went on",
    ".train.lock": "it says who trains, and since when",
    ".leaderboard.lock": "a lock: nothing is in it",
}
WEIGHTS = (".pt", ".safetensors")  # checkpoints
NAMES: dict[str, str] = {  # how the name of a file begins: what takes its place
    "events.out.tfevents.": "events",  # the time and the host
}


def normal(directory: Path) -> dict[str, str]:
    """The digest of each file and folder below a directory, by its path without what time may change."""
    found: dict[str, str] = {}
    for path in sorted(directory.rglob("*")):
        name = next((short for begin, short in NAMES.items() if path.name.startswith(begin)), path.name)
        key = str(path.relative_to(directory).with_name(name))
        while key in found:  # two events files, say
            key += "'"
        found[key] = "folder" if path.is_dir() else _digest(path, name, directory)
    return found


def _digest(path: Path, name: str, directory: Path) -> str:
    if name in CONTENTS:
        return "any"
    try:
        content = READERS.get(path.stem if path.suffix in WEIGHTS else name, _text)(path)
    except Exception as error:  # a reader cannot read it: that is the difference
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return hashlib.sha256(content.replace(str(directory).encode(), b"DIR")).hexdigest()[:16]


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of the files that are not the same, and why where a reader says so."""
    names = [name for name in sorted({**one, **other}) if one.get(name) != other.get(name)]
    return [f"{name} ({one.get(name, 'not there')} -> {other.get(name, 'not there')})" for name in names]


def _text(path: Path) -> bytes:
    return path.read_bytes()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, default=str).encode()


def _without(row: dict[str, Any], name: str, above: str = "") -> dict[str, Any]:
    return {key: _without(value, name, f"{above}{key}.") if isinstance(value, dict) else value
            for key, value in row.items() if f"{above}{key}" not in FIELDS[name]}  # fmt: skip


def _result(path: Path) -> bytes:
    return _json(_without(json.loads(path.read_text(encoding="utf-8")), "result.json"))


def _rows(path: Path) -> bytes:
    lines = path.read_text(encoding="utf-8").splitlines()
    return _json([_without(json.loads(line), "metrics.jsonl") for line in lines])


def _table(path: Path) -> bytes:
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))
    return _json([_without(row, "leaderboard.csv") for row in rows])


def _checkpoint(path: Path) -> bytes:
    """Every bit of every tensor, and all plain values."""
    from fmnist.record import checkpoint

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        if hasattr(value, "numpy"):
            array = value.detach().contiguous().numpy()
            return [str(value.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
        return value

    return _json(plain(_without(checkpoint.load(path), "last")))


def _records(path: Path) -> Iterator[bytes]:
    """The records of an events file: length, its sum, content, its sum."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        (length,) = struct.unpack("<Q", content[at : at + 8])
        record = content[at + 12 : at + 12 + length]
        if len(record) < length or at + 16 + length > len(content):
            raise ValueError("half a record")
        yield record
        at += 16 + length


def _events(path: Path) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    kept = []
    for record in _records(path):
        event = Event.FromString(record)
        event.wall_time = 0
        for value in event.summary.value:
            about = value.metadata.plugin_data
            if about.plugin_name == "hparams":
                data = HParamsPluginData.FromString(about.content)
                data.session_start_info.start_time_secs = data.session_end_info.end_time_secs = 0
                data.session_start_info.group_name = ""
                about.content = data.SerializeToString(deterministic=True)
        kept.append(event.SerializeToString(deterministic=True).hex())
    return _json(kept)


def _study(path: Path) -> bytes:
    """The trials that Optuna's journal amounts to: going on writes some of its lines again."""
    import shutil
    import tempfile

    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copy(path, Path(scratch, "copy"))
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(copy)))
        study = optuna.load_study(study_name="search", storage=storage)
        trials = study.get_trials(deepcopy=False)
        return _json([study.user_attrs, [
            [t.number, t.state.name, t.values, t.params, t.intermediate_values, t.user_attrs] for t in trials
        ]])  # fmt: skip


READERS: dict[str, Callable[[Path], bytes]] = {
    "metrics.jsonl": _rows, "result.json": _result, "last": _checkpoint, "best": _checkpoint,
    "leaderboard.csv": _table, "events": _events, "study.jsonl": _study,
}  # fmt: skip
