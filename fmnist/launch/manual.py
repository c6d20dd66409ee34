"""What a user is told before Hydra reads the command: the text of --help, from the files in conf/, and quotes."""

import string
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import OmegaConf

from fmnist import ROOT
from fmnist.config.schema import GROUPS
from fmnist.launch.commands import quoted_anew

CONF = ROOT / "conf"


def manual() -> str:
    """Every knob with its default and its comment: the text of the config files themselves, for `--help`."""
    parts = [(CONF / "config.yaml").read_text(encoding="utf-8").split("# ---")[1].split("\n", 1)[1].strip()]
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            lines = [
                f"    {line}"
                for line in file.read_text(encoding="utf-8").strip().splitlines()
                if not line.startswith("name:")
            ]
            parts.append(f"{group}={file.stem}\n" + "\n".join(lines))
    for kind, folder in {"experiment": CONF / "experiment", "study": CONF.parent / "sweep" / "study"}.items():
        names = sorted(file.stem for file in folder.glob("*.yaml"))
        parts.append(f"{kind}=NAME, one of: " + ", ".join(names))
    return "\n\n".join(parts).replace("$", "$$")  # Hydra takes the text as a string.Template


def advise(typed: Sequence[str]) -> None:
    """Say how values are to be quoted that Hydra's grammar refuses. Where `--help` is all that is typed, print what
    Hydra would print, and end the command: Hydra lists all config groups first, for parts of a template that ours does
    not have, which takes half a second more."""
    if typed in (["--help"], ["-h"]):
        config: Any = OmegaConf.load(CONF / "config.yaml")
        print(string.Template(config.hydra.help.template).substitute())
        raise SystemExit(0)
    if hint := quoted_anew(typed):
        print(hint, file=sys.stderr)


OmegaConf.register_new_resolver("manual", manual, replace=True)
