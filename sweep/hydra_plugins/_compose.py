"""The config of a job at a fraction of what Hydra takes for it: most jobs of a sweep differ in plain values only."""

import pickle
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig


class Composer:
    """Composes the jobs of one sweep; the result is what Hydra's `load_sweep_config` gives.

    Hydra composes the files of every job anew. This class does so once for each choice of files (of config groups, such
    as model=mlp2). A job is a copy of that, to which Hydra's own function applies the job's plain values.
    """

    def __init__(self, loader: ConfigLoader, master: DictConfig) -> None:
        self.loader, self.master = loader, master
        self.parser = OverridesParser.create()
        self.parsed: dict[str, Override] = {}
        self.composed: dict[tuple[str, ...], bytes] = {}
        self.chooses: dict[str, bool] = {}
        self.repository: Any = None

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """The config of the job with these overrides; errors are Hydra's."""
        try:
            return self._quickly(overrides)
        except Exception:  # Hydra composes what is unusual, or says what is wrong
            return self.loader.load_sweep_config(self.master, list(overrides))

    def _quickly(self, overrides: Sequence[str]) -> DictConfig:
        assert isinstance(self.loader, ConfigLoaderImpl)
        parsed = [self._parse(text) for text in overrides]
        own = [text for text, override in zip(overrides, parsed, strict=True) if override.is_hydra_override()]
        if any(override.is_sweep_override() for override in parsed) or any("searchpath" in text for text in own):
            raise NotImplementedError
        files = [override for override in parsed if self._chooses_files(override)]
        values = [override for override in parsed if not self._chooses_files(override)]
        key = tuple(str(override.input_line) for override in files)
        if key not in self.composed:
            self.composed[key] = pickle.dumps(self.loader.load_sweep_config(self.master, list(key)))
        config: DictConfig = pickle.loads(self.composed[key])  # several times faster than a deep copy
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        config.hydra.overrides.task = [text for text in overrides if text not in own]
        if own:
            config.hydra.overrides.hydra = [*self.master.hydra.overrides.hydra, *own]
        how = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            [override for override in parsed if not override.is_hydra_override()], kv_sep=how.kv_sep,
            item_sep=how.item_sep, exclude_keys=how.exclude_keys,
        )  # fmt: skip
        return config

    def _parse(self, text: str) -> Override:
        if text not in self.parsed:
            self.parsed[text] = self.parser.parse_override(text)
        return self.parsed[text]

    def _chooses_files(self, override: Override) -> bool:
        """By the rule of Hydra's defaults list."""
        if self.repository is None:
            self.repository = CachingConfigRepository(self.loader.repository)  # type: ignore[attr-defined]
        key = override.key_or_group
        if key not in self.chooses:  # it looks for folders
            self.chooses[key] = bool(self.repository.group_exists(key))
        return not isinstance(override.value(), dict) and self.chooses[key]
