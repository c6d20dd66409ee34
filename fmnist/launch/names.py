"""The names of sweeps and runs: made of the overrides alone, so that the same command finds the same directories.

A name is plain letters, digits and "._+-". It needs no quotes, neither in a shell nor in `hydra.run.dir=...`, where
Hydra's grammar gives "=", "," and brackets a meaning. So `lr=1e-3 +dropout=0.5` becomes lr-1e-3+dropout-0.5.
"""

import functools
import hashlib
import re
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from fmnist.config.schema import ASIDE, NOT_HASHED

LONGEST = 200  # characters of a name; a file system takes 255 bytes


def sweep_name(typed: Sequence[str]) -> str:
    """A sweep's name: its overrides as they were typed; of those that are swept only the key; of a study its name."""
    kept = []
    for key, (value, swept) in _typed(typed).items():
        if key in ASIDE or (key in NOT_HASHED and not swept):
            continue
        kept.append(key if swept or not value else _plain(value) if key == "study" else f"{key}-{_plain(value)}")
    return _short("+".join(_plain_key(part) for part in kept) or "defaults")


def job_name(typed: Sequence[str], overrides: Sequence[str]) -> str:
    """A job's name: its overrides, without those that were typed with one value for all jobs of the sweep."""
    shared = {key for key, (_, swept) in _typed(typed).items() if not swept}
    own = [(key, value) for key, value in map(_split, overrides) if key not in shared]
    return _short("+".join(f"{_plain_key(key)}-{_plain(value)}" for key, value in own) or "run")


def _typed(overrides: Sequence[str]) -> dict[str, tuple[str, bool]]:
    """By key: the value, and whether it is swept over. Of a key that was typed twice the last one counts."""
    return {key: (value, is_swept(text)) for text in overrides for key, value in [_split(text)]}


@functools.cache
def is_swept(text: str) -> bool:
    return bool(parser().parse_override(text).is_sweep_override())


@functools.cache
def parser() -> Any:
    """Hydra's parser of overrides."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create()


def _split(override: str) -> tuple[str, str]:
    """(key, value) of an override, without the + of +dropout=0.5."""
    key, _, value = override.partition("=")
    return key.lstrip("+").strip(), value.strip()


def _plain_key(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", text.replace("~", "no-"))


def _plain(value: str) -> str:
    """A value in the characters of a name. A flat list is its elements with "-" between them; 1e+30 is 1e30. What had
    to be rewritten in any other way gets a hash, so that two values have two names. In quotes it is text."""
    text = re.fullmatch(r"(['\"])(.*)\1", value, re.DOTALL)
    plain = text[2] if text else re.sub(r"(?<=\de)\+", "", value)
    if not text and re.fullmatch(r"\[[\w.-]+(, *[\w.-]+)*\]", plain, re.ASCII):
        return re.sub(r", *", "-", plain[1:-1])
    kept = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-")
    return kept if kept == plain else f"{kept}-{_hash(value)}".lstrip("-")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 9]}-{_hash(name)}"


def _hash(text: str) -> str:
    """A path may have bytes that are no UTF-8."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]


# A job's config inherits what the sweep's has cached: so `typed` gives a job the sweep's own overrides.
OmegaConf.register_new_resolver("typed", lambda overrides: list(overrides), use_cache=True, replace=True)
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)
OmegaConf.register_new_resolver("job_name", job_name, replace=True)
