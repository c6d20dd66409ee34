"""From what the user typed to a checked Config: types, ranges, one line per mistake; no torch is imported for it."""

import difflib
import functools
import glob
import hashlib
import json
import math
import os
import pickle
from collections.abc import Collection
from dataclasses import asdict, fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist import UserError
from fmnist.config.annealing import annealed
from fmnist.config.schema import (
    ANNEALED,
    ASIDE,
    AUGMENTATIONS,
    GROUPS,
    LATER,
    LAYERS,
    NOT_HASHED,
    AnomalyConfig,
    Config,
    Kind,
    Knobs,
    kind,
    load_ideas,
)


def config_hash(config: Config) -> str:
    """12 hex digits that two configs share exactly when they ask for the same run."""
    plain = {key: value for key, value in asdict(config).items() if key not in NOT_HASHED}
    for name in LATER:
        group, _, knob = name.rpartition(".")
        part = plain[group] if group else plain
        if part.get(knob) in (None, {}) or part[knob] is False:
            part.pop(knob, None)
    if config.data.name == "fashion":  # checksums pin its contents, so its folder does not matter
        plain["data"] = {key: value for key, value in plain["data"].items() if key != "dir"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def parse(given: Any) -> Config:
    """A DictConfig or a dict of plain values -> Config. Raises UserError with one line for the first mistake found."""
    try:
        plain: Any = OmegaConf.to_container(given, resolve=True) if OmegaConf.is_config(given) else dict(given)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from None
    for key in ASIDE:
        plain.pop(key, None)
    groups = {group: pickle.loads(_group(group, pickle.dumps(plain.pop(group, None)))) for group in GROUPS}
    for name, takes in {"anomaly": list | int | float | str, "augment": int | float | str, "anneal": list}.items():
        inner = plain.get(name) or {}
        if not isinstance(inner, dict) or not all(isinstance(value, takes | None) for value in inner.values()):
            raise UserError(f"{name} must be knobs with a {'list' if takes is list else 'value'} each, got {inner!r}")
        plain[name] = {key: value for key, value in inner.items() if value is not None or takes is not list}
    anomaly = _typed(AnomalyConfig, plain.pop("anomaly"), "anomaly.")
    config = Config(**vars(_typed(Knobs, plain, "", also=(*GROUPS, "anomaly"))), **groups, anomaly=anomaly)
    _check_augment(config)
    config = _annealed(config)
    _check_combination(config)
    return config


@functools.lru_cache  # thousands of jobs have few groups
def _group(group: str, pickled: bytes) -> bytes:
    plain = pickle.loads(pickled)
    name: Any = plain.get("name") if isinstance(plain, dict) else plain
    if not isinstance(plain, dict) or not _known(name, GROUPS[group]):
        raise UserError(f"{group}.name must be one of {', '.join(GROUPS[group])}, got {name!r}")
    entry = GROUPS[group][name]
    return pickle.dumps(_typed(entry.config if isinstance(entry, Kind) else entry, plain, f"{group}."))


def _known(name: Any, table: Collection[str]) -> bool:
    """Whether a table has a name, if need be after importing the files of fmnist/ideas/, which may add it."""
    if name not in [*table]:  # a list: a name out of a file may be anything, and have no hash
        load_ideas()
    return name in [*table]


@functools.cache
def _structured(schema: type) -> bytes:
    return pickle.dumps(OmegaConf.structured(schema))  # to be copied: several times faster than a deep copy


def _typed(schema: type, plain: dict[Any, Any], prefix: str, also: tuple[str, ...] = ()) -> Any:
    """An instance of schema from a plain dict: unknown keys, types and ranges are checked, in that order."""
    known = {f.name: f.default for f in fields(schema)}
    for key in plain:
        if key not in known:
            close = difflib.get_close_matches(str(key), [*known, *also], n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"there are {', '.join(known)}"
            raise UserError(f"unknown knob {prefix}{key}: {hint}")
    try:
        checking = pickle.loads(_structured(schema))
        for key, value in plain.items():
            if type(value) is not type(known[key]) or value != known[key]:  # setting takes long
                if isinstance(value, list) and len(value) > LAYERS:
                    raise UserError(f"{prefix}{key} must have at most {LAYERS} numbers, got {len(value)}")
                if "${" in repr(value):  # what a file says is no reference, such as to the environment
                    raise UserError(f"{prefix}{key} must be a value, got the reference {value!r}")
                checking[key] = value
        typed: Any = OmegaConf.to_object(checking)
    except (OmegaConfBaseException, OverflowError) as error:
        key = str(getattr(error, "full_key", key) or "").split("[")[0]
        kinds = {f.name: _kind(f.type) for f in fields(schema)}
        got = f", got {plain[key]!r}" if key in plain else ""
        inner = "a list of numbers" if key.startswith("anneal.") else "a number or null"
        raise UserError(f"{prefix}{key} must be {kinds.get(key, inner)}{got}") from None
    for f in fields(schema):
        value = getattr(typed, f.name)
        for element in value if isinstance(value, list) else [value]:
            _check(f"{prefix}{f.name}", element, f.metadata.get("allowed"), value)
    return typed


def _annealed(config: Config) -> Config:
    """The config with the last values of `anneal`, which evaluation sees. A knob that is set as well must have them."""
    held = [(f, part) for part in (config, config.model) for f in fields(part) if f.name in ANNEALED]
    knobs = {f.name: (f.metadata["allowed"], getattr(part, f.name), f.default) for f, part in held}
    for name, values in config.anneal.items():
        if name not in knobs and not _known(name, AUGMENTATIONS):
            raise UserError(f"unknown knob anneal.{name}: there are {', '.join([*knobs, *AUGMENTATIONS])}")
        allowed, given, default = knobs.get(name) or (AUGMENTATIONS[name], config.augment.get(name), None)
        for value in values or [math.nan]:
            _check(f"anneal.{name}", value, allowed, values)
        if given not in (default, values[-1]):
            raise UserError(f"{name} must be left out, or be {values[-1]:g} as the last of anneal.{name}, got {given}")
    return annealed(config, lambda values: values[-1])


def _check(name: str, element: Any, allowed: str | Collection[str] | None, value: Any) -> None:
    """Refuse an element of a knob's value that is not allowed."""
    if value is not None and allowed is not None and not _allows(allowed, element):
        raise UserError(f"{name} must be {_describe(allowed)}, got {value!r}")


def _kind(annotation: Any) -> str:
    text = annotation.__name__ if type(annotation) is type else str(annotation)
    names = {"Any": "a value", "int": "a whole number", "float": "a number", "bool": "true or false", "str": "a name",
             "list[int]": "a list of whole numbers", "list[float]": "a list of numbers",
             "dict[str, float | None]": "names with numbers", "dict[str, list[float]]": "names with lists"}  # fmt: skip
    base = text.removesuffix(" | None")
    return names[base] + (" or null" if base != text else "")


def _interval(allowed: str) -> tuple[float, float, float]:
    low, high, step = map(float, f"{allowed[1:-1]}, 0".split(",")[:3])
    return low, high, step  # 0: any number between


def _allows(allowed: str | Collection[str], value: Any) -> bool:
    if not isinstance(allowed, str):
        return _known(value, allowed)
    if type(value) not in (int, float):  # a knob may be a number or a list
        return False
    low, high, step = _interval(allowed)
    above = value >= low if allowed[0] == "[" else value > low
    below = value <= high if allowed[-1] == "]" else value < high
    return bool(above and below and abs(value) < math.inf and not (step and value % step))


def _describe(allowed: str | Collection[str]) -> str:
    if not isinstance(allowed, str):
        return f"one of {', '.join(allowed)}"
    low, high, step = _interval(allowed)
    if high == math.inf:
        whole = "a whole number of " if step else ""
        return f"{whole}at least {low:g}" if allowed[0] == "[" else f"greater than {low:g} and finite"
    return f"in {allowed}"


def _check_combination(config: Config) -> None:
    """Refuse combinations of values that each knob by itself allows; fill in what follows from other knobs."""
    model, of = config.model, kind(config.model.name)
    config.loss = config.loss or of.losses[0]
    if config.debug:
        most = 640 if config.anomaly.classes else 64  # of which one class are some 64
        config.epochs, config.data.limit = min(config.epochs, 3), min(config.data.limit or most, most)
        config.batch_size = max(2, math.ceil(min(64, config.data.limit) * config.data.split / 2))  # two steps an epoch
    if not _known(config.loss, of.losses):
        raise UserError(f"loss must be one of {', '.join(of.losses)} for model {model.name}, got {config.loss!r}")
    if config.label_smoothing is not None and config.loss != "cross_entropy":
        raise UserError(f"label_smoothing must be null unless loss=cross_entropy, got loss={config.loss}")
    if config.teacher is not None and config.loss != "cross_entropy":
        raise UserError(f"teacher must be null unless loss=cross_entropy, got loss={config.loss}")
    _check_norm(config)
    for name, value, why in _not_for(annealed(config, max)):
        if value:
            raise UserError(f"{name} must be null for model {model.name}, got {value}: {why}")
    if (normal := config.anomaly.normal) is not None:
        classes = sorted({*config.anomaly.classes})
        if not classes or (config.data.name == "fashion" and (classes[-1] > 9 or len(classes) == 10)):
            allowed = "a class (of Fashion-MNIST 0 to 9) or a list that leaves one out"
            raise UserError(f"anomaly.normal must be {allowed}, got {normal!r}")
        config.anomaly.normal = classes if len(classes) > 1 else classes[0]
    if hasattr(model, "hidden") and not model.hidden:
        raise UserError("model.hidden must name at least one hidden layer, e.g. [300,100], got []")
    if len(getattr(config.optim, "betas", (0, 0))) != 2:
        raise UserError(f"optim.betas must be two numbers in [0, 1), got {config.optim.betas}")
    if config.optim.name == "sgd" and config.optim.nesterov and not config.optim.momentum:
        raise UserError("optim.nesterov must be null unless optim.momentum is greater than 0")
    if config.norm == "batch" and config.batch_size == 1:
        raise UserError("batch_size must be at least 2 with batch_norm, got 1")
    if config.drop_path is not None and not config.skip:
        raise UserError("skip must be true for drop_path, which leaves out what is inside skip connections, got null")
    if not config.skip:
        config.skip_scale = "depth"  # without skip connections it makes no difference: the run is the same
    if config.epochs % (config.cycles or 1):
        raise UserError(f"cycles must divide epochs, which are {config.epochs}, got {config.cycles}")
    if config.select == "average" and config.ema is None:
        raise UserError("ema must be set for select=average, e.g. ema=0.999, got null")
    if config.data.split == 1 and (config.select == "best" or config.patience):
        raise UserError("data.split must be below 1 for select=best or patience: they need validation rows")
    if config.data.name == "idx" and config.data.dir is None:
        raise UserError("data.dir must name the folder of the IDX files with data=idx, got null")
    device, _, index = config.device.partition(":")
    if device not in ("auto", "cpu", "cuda") or (index and not (device == "cuda" and index.isdecimal())):
        raise UserError(f"device must be auto, cpu, cuda or cuda:N, got {config.device!r}")


def _not_for(config: Config) -> list[tuple[str, Any, str]]:
    """The knobs, with their values, that this kind of model cannot use, and why."""
    of = kind(config.model.name)
    normal = ", ".join(map(str, config.anomaly.classes)) or None
    found: list[tuple[str, Any, str]] = [("augment.mixup", config.augment.get("mixup"), "it is for classifiers")]
    if of.classifies:
        found = [("anomaly.normal", normal, "it is for autoencoders")]
    if len(of.widths(config.model, 1, 1)) == 2:
        given = [(name, getattr(config, name)) for name in ("dropout", "norm", "skip", "drop_path", "gate")]
        given.append(("watch", config.watch if config.watch == "inputs" else None))
        found += [(name, value, "it has no hidden layer") for name, value in given]
    return found


def _check_norm(config: Config) -> None:
    """norm=batch and batch_norm=true mean the same: where one is set, set both."""
    if config.batch_norm and config.norm not in (None, "batch"):
        raise UserError(f"norm must be batch or null with batch_norm=true, got {config.norm!r}")
    config.norm = "batch" if config.batch_norm else config.norm
    config.batch_norm = True if config.norm == "batch" else config.batch_norm


def _check_augment(config: Config) -> None:
    """Keep the augmentations that are on, in the order of their table, which is the order in which they are done."""
    for name, strength in config.augment.items():
        if not _known(name, AUGMENTATIONS):
            raise UserError(f"unknown knob augment.{name}: there are {', '.join(AUGMENTATIONS)}")
        _check(f"augment.{name}", strength, AUGMENTATIONS[name], strength)
    config.augment = {name: config.augment[name] for name in AUGMENTATIONS if config.augment.get(name)}


def check_machine(config: Config) -> None:
    """Refuse what a config asks for and this machine does not have: a folder, a device."""
    folder = os.path.expanduser(config.data.dir or "/")
    around = config.data.name == "idx" and os.path.isdir(os.path.dirname(folder) or ".")
    if not os.path.isdir(folder) and not (around and glob.glob(f"{glob.escape(folder)}[-_. ]*")):  # files in a folder
        raise UserError(f"data.dir must be an existing folder, got {config.data.dir!r}")
    if config.teacher is not None and not os.path.isfile(os.path.expanduser(config.teacher)):
        raise UserError(f"teacher must be an existing file, got {config.teacher!r}")
    device, _, index = config.device.partition(":")
    if device == "cuda":
        import torch

        if int(index or 0) >= torch.cuda.device_count():
            raise UserError(f"device must be one that is here (auto, cpu; cuda devices: "
                            f"{torch.cuda.device_count()}), got {config.device!r}")  # fmt: skip


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one: {"model": {"name": ...}} -> {"model.name": ...}."""
    flattened: dict[str, Any] = {}
    for key, value in plain.items():
        flattened |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flattened
