"""From what the user typed to a checked Config: types, ranges, one line per mistake; no torch is imported for it."""

import difflib
import functools
import hashlib
import json
import math
import os
import sys
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist import UserError
from fmnist.names import job_name, sweep_name
from fmnist.schema import ASIDE, CLASSIFIERS, GROUPS, LOSSES, NOT_HASHED, AnomalyConfig, Config, Knobs

CONF = Path(__file__).parents[1] / "conf"


def config_hash(config: Config) -> str:
    """12 hex digits that two configs share exactly when they ask for the same run."""
    plain = {key: value for key, value in asdict(config).items() if key not in NOT_HASHED}
    if config.data.name == "fashion":  # its contents are pinned by checksums, wherever they lie
        plain["data"] = {key: value for key, value in plain["data"].items() if key != "dir"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def parse(given: Any) -> Config:
    """A DictConfig or plain dict -> Config. Raises UserError with one line for the first mistake found."""
    try:
        plain = OmegaConf.to_container(given if OmegaConf.is_config(given) else OmegaConf.create(given), resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from None
    assert isinstance(plain, dict)
    for key in ASIDE:
        plain.pop(key, None)
    groups = {group: _group(group, plain.pop(group, None)) for group in GROUPS}
    anomaly = _typed(AnomalyConfig, plain.pop("anomaly", None) or {}, "anomaly.")
    config = Config(**vars(_typed(Knobs, plain, "", also=(*GROUPS, "anomaly"))), **groups, anomaly=anomaly)
    _check_combination(config)
    return config


def _group(group: str, plain: Any) -> Any:
    if not isinstance(plain, dict) or plain.get("name") not in GROUPS[group]:
        got = plain.get("name") if isinstance(plain, dict) else plain
        raise UserError(f"{group}.name must be one of {', '.join(GROUPS[group])}, got {got!r}")
    return _typed(GROUPS[group][plain["name"]], plain, f"{group}.")


@functools.cache
def _structured(schema: type) -> Any:
    return OmegaConf.structured(schema)


def _typed(schema: type, plain: dict[Any, Any], prefix: str, also: tuple[str, ...] = ()) -> Any:
    """An instance of schema from a plain dict: unknown keys, types and ranges are checked, in that order."""
    known = [f.name for f in fields(schema)]
    for key in plain:
        if key not in known:
            close = difflib.get_close_matches(str(key), [*known, *also], n=1)
            hint = f"did you mean {prefix}{close[0]}?" if close else f"there are {', '.join(known)}"
            raise UserError(f"unknown knob {prefix}{key}: {hint}")
    try:
        typed = OmegaConf.to_object(OmegaConf.merge(_structured(schema), plain))
    except OmegaConfBaseException as error:
        key = str(error.full_key or "").split("[")[0]
        kinds = {f.name: _kind(f.type) for f in fields(schema)}
        got = f", got {plain[key]!r}" if key in plain else ""
        raise UserError(f"{prefix}{key} must be {kinds.get(key, 'valid')}{got}") from None
    for f in fields(schema):
        value = getattr(typed, f.name)
        allowed = f.metadata.get("allowed")
        for element in value if isinstance(value, list) else [value]:
            if element is not None and allowed is not None and not _allows(allowed, element):
                raise UserError(f"{prefix}{f.name} must be {_describe(allowed)}, got {value!r}")
    return typed


def _kind(annotation: Any) -> str:
    text = getattr(annotation, "__name__", None) or str(annotation)
    text = str(annotation) if "[" in str(annotation) or "|" in str(annotation) else text
    names = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a name",
             "list[int]": "a list of whole numbers", "list[float]": "a list of numbers"}  # fmt: skip
    base = text.removesuffix(" | None")
    return names[base] + (" or null" if base != text else "")


def _interval(allowed: str) -> tuple[float, float]:
    low, high = allowed[1:-1].split(",")
    return float(low), float(high)


def _allows(allowed: str | tuple[str, ...], value: Any) -> bool:
    if isinstance(allowed, tuple):
        return value in allowed
    low, high = _interval(allowed)
    above = value >= low if allowed[0] == "[" else value > low
    below = value <= high if allowed[-1] == "]" else value < high
    return bool(above and below and math.isfinite(value))


def _describe(allowed: str | tuple[str, ...]) -> str:
    if isinstance(allowed, tuple):
        return f"one of {', '.join(allowed)}"
    low, high = _interval(allowed)
    if high == math.inf:
        return f"at least {low:g}" if allowed[0] == "[" else f"greater than {low:g} and finite"
    return f"in {allowed}"


def _check_combination(config: Config) -> None:
    """Refuse what each knob allows by itself but not together with the others; fill in what follows from them."""
    losses = LOSSES[config.model.name]
    config.loss = config.loss or losses[0]
    if config.loss not in losses:
        raise UserError(f"loss must be one of {', '.join(losses)} for model {config.model.name}, got {config.loss!r}")
    if config.label_smoothing is not None and config.loss != "cross_entropy":
        raise UserError(f"label_smoothing must be null unless loss=cross_entropy, got loss={config.loss}")
    if config.model.name in CLASSIFIERS:
        for name, value in {**vars(config), "anomaly.normal": config.anomaly.normal}.items():
            if name in ("noise", "mask", "anomaly.normal") and value is not None:
                raise UserError(
                    f"{name} must be null for model {config.model.name}, got {value}: it is for autoencoders"
                )
    if config.data.name == "fashion" and config.anomaly.normal is not None and config.anomaly.normal > 9:
        raise UserError(f"anomaly.normal must be a class, 0 to 9, got {config.anomaly.normal}")
    if hasattr(config.model, "hidden") and not config.model.hidden:
        raise UserError("model.hidden must name at least one hidden layer, e.g. [300,100], got []")
    if config.optim.name != "sgd" and len(config.optim.betas) != 2:
        raise UserError(f"optim.betas must be two numbers in [0, 1), got {config.optim.betas}")
    if config.optim.name == "sgd" and config.optim.nesterov and not config.optim.momentum:
        raise UserError("optim.nesterov must be null unless optim.momentum is greater than 0")
    if config.batch_norm and config.batch_size == 1:
        raise UserError("batch_size must be at least 2 with batch_norm, got 1")
    if config.data.split == 1 and (config.select == "best" or config.patience):
        raise UserError("data.split must be below 1 for select=best or patience: they need validation rows")
    if config.data.name == "idx" and config.data.dir is None:
        raise UserError("data.dir must name the folder of the IDX files with data=idx, got null")
    if config.data.dir is not None and not os.path.isdir(config.data.dir):
        raise UserError(f"data.dir must be an existing folder, got {config.data.dir!r}")
    kind, _, index = config.device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise UserError(f"device must be auto, cpu, cuda or cuda:N, got {config.device!r}")
    if kind == "cuda":
        import torch

        if int(index or 0) >= torch.cuda.device_count():
            raise UserError(f"device must be one that is here (auto, cpu; cuda devices: "
                            f"{torch.cuda.device_count()}), got {config.device!r}")  # fmt: skip


def read_result(directory: Path) -> dict[str, Any] | None:
    """A run's result.json, or None where no run was started. Raises UserError if it is damaged."""
    try:
        result: dict[str, Any] = json.loads((directory / "result.json").read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}/result.json is damaged ({error}): remove it to start this run anew") from None
    if not isinstance(result, dict) or not {"status", "config", "config_hash"} <= result.keys():
        raise UserError(f"{directory}/result.json is damaged (not a run's): remove it to start this run anew")
    return result


def of_run(directory: Path) -> Config:
    """The config of a run that was started in `directory`, from its record, but for any device: the run's own may not
    be here. Raises UserError where there is no run."""
    result = read_result(directory)
    if result is None:
        raise UserError(f"no run found in {directory}: it has no result.json")
    return parse(result["config"] | {"device": "auto"})


def check_directory(config: Config, directory: Path) -> dict[str, Any] | None:
    """Refuse to mix two runs: a directory that holds a run can only be started again with the same config. What
    `read_result` gives for it."""
    result = read_result(directory)
    if result is None or result["config_hash"] == config_hash(config):
        return result
    there = of_run(directory)
    if config_hash(there) != config_hash(config):  # a knob that was added since has its default there
        old, new = (flat({k: v for k, v in asdict(c).items() if k not in NOT_HASHED}) for c in (there, config))
        changed = [f"{k}={old.get(k)} there, {new.get(k)} here" for k in {**old, **new} if old.get(k) != new.get(k)]
        raise UserError(
            f"{directory} holds a run of another config ({'; '.join(changed)}): choose another hydra.run.dir"
        )
    return result


def flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one: {"model": {"name": ...}} -> {"model.name": ...}."""
    flattened: dict[str, Any] = {}
    for key, value in plain.items():
        flattened |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flattened


class Callback:
    """What Hydra calls at certain times, without importing hydra: does nothing at any of them."""

    def _ignore(self, config: Any, **_: Any) -> None: ...

    on_run_start = on_run_end = on_job_start = on_job_end = _ignore
    on_multirun_start = on_multirun_end = on_compose_config = _ignore


class RefuseEarly(Callback):
    """Hydra callback: a mistake in a single run is refused before Hydra creates or touches the run's directory."""

    def on_run_start(self, config: Any, **_: Any) -> None:
        """Check the composed config; leave with status 2 and one line if it is refused."""
        try:
            asked = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
            checked = parse(asked)
            try:
                directory = Path(config.hydra.run.dir)
            except OmegaConfBaseException:  # only known once the job runs: train.py checks it again then
                return
            check_directory(checked, directory)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None

    def on_multirun_start(self, config: Any, **_: Any) -> None:
        """Let the resolver `typed` see the sweep's own command line before any job's."""
        with suppress(OmegaConfBaseException):  # such as ${hydra.job.num}, known to jobs alone
            str(config.hydra.sweep.subdir)


def manual() -> str:
    """Every knob with its default and its comment: the text of the config files themselves, for `--help`."""
    parts = [(CONF / "config.yaml").read_text().split("# ---")[1].split("\n", 1)[1].strip()]
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            lines = [f"    {line}" for line in file.read_text().strip().splitlines() if not line.startswith("name:")]
            parts.append(f"{group}={file.stem}\n" + "\n".join(lines))
    for kind, folder in {"experiment": CONF / "experiment", "study": CONF.parent / "sweep" / "study"}.items():
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        parts.append(f"{kind}=NAME, one of: " + ", ".join(names))
    return "\n\n".join(parts).replace("$", "$$")  # Hydra takes the text as a string.Template


OmegaConf.register_new_resolver("manual", manual, replace=True)
# A job's config inherits what was cached in the sweep's: there `typed` still gives the sweep's own overrides.
OmegaConf.register_new_resolver("typed", lambda overrides: list(overrides), use_cache=True, replace=True)
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("job_name", job_name, replace=True)
