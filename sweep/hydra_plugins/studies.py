"""Where Hydra finds `study=NAME`: in sweep/, beside the directory of the program's configs."""

from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class Studies(SearchPathPlugin):
    """Adds sweep/ to the search path of a program that has it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """See SearchPathPlugin."""
        for element in list(search_path.get_path()):
            beside = Path(str(element.path).removeprefix("file://")).parent / "sweep"
            if element.provider == "main" and (beside / "study").is_dir():
                search_path.append("fmnist", f"file://{beside}")
