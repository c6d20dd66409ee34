"""What a user is told in Hydra's place: the text of --help, from the files in conf/; quotes; knobs that are none."""

import difflib
import errno
import re
import string
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf

from fmnist import ROOT
from fmnist.config.parse import flat
from fmnist.config.schema import GROUPS
from fmnist.launch.commands import quoted_anew
from fmnist.launch.runs import one_line

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


@contextmanager
def advising(typed: Sequence[str]) -> Iterator[None]:
    """Say how values are to be quoted that Hydra's grammar refuses. Where `--help` is all that is typed, print what
    Hydra would print, and end the command: Hydra lists all config groups first, for parts of a template that ours does
    not have, which takes half a second more. Within it a command that Hydra cannot compose is one line and status 2."""
    if typed in (["--help"], ["-h"]):
        config: Any = OmegaConf.load(CONF / "config.yaml")
        print(string.Template(config.hydra.help.template).substitute())
        raise SystemExit(0)
    if hint := quoted_anew(typed):
        print(hint, file=sys.stderr)
    from hydra._internal import utils as internal
    from hydra.errors import ConfigCompositionException

    utils: Any = internal
    report = utils.run_and_report  # it ends the command with several lines and status 1

    def in_one_line(do: Callable[[], Any]) -> Any:
        def told() -> Any:
            try:
                return do()
            except ConfigCompositionException as error:
                print(f"error: {mistake(error)}", file=sys.stderr)
                raise SystemExit(2) from None
            except (OSError, ValueError) as error:  # of a file that Hydra writes; logging hides it in a ValueError
                cause = error.__cause__ if isinstance(error, ValueError) else error
                if not isinstance(cause, OSError):
                    raise
                if words := _too_long(cause):
                    print(f"error: {words}", file=sys.stderr)
                    raise SystemExit(2) from None
                with one_line():
                    raise cause from None

        return report(told)

    utils.run_and_report = in_one_line
    try:
        yield
    finally:
        utils.run_and_report = report


def _too_long(error: OSError) -> str:
    """What is wrong with a choice whose file has a name that no system takes; "" for any other error."""
    group, _, name = str(error.filename).removesuffix(".yaml").partition("/hydra/conf/")[2].partition("/")
    if error.errno != errno.ENAMETOOLONG or group not in GROUPS:
        return ""
    return _no_choice(group, sorted(path.stem for path in (CONF / group).glob("*.yaml")), name)


def _no_choice(group: str, options: Sequence[str], name: str) -> str:
    return f"{group} must be one of {', '.join(options)}, got {name}"


def mistake(error: Any) -> str:
    """What cannot be composed, and what is allowed instead."""
    if options := getattr(error, "options", None):
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return _no_choice(group, options, name)
    words = " ".join(str(error).splitlines()[:1])
    found = re.fullmatch(r"Could not override '(.+)'\.", words)
    if not found:
        return words + (": several values need -m (--multirun)" if "--multirun" in str(error) else "")
    group, _, key = found[1].partition(".")
    paths = sorted((CONF / group).glob("*.yaml")) if group in GROUPS else []
    files = {path.stem: [str(name) for name in OmegaConf.load(path)] for path in paths}
    if owners := [f"{group}={name}" for name, file in files.items() if key in file]:
        return f"{found[1]}: the {group} that is chosen has no such knob; {' and '.join(owners)} can have it"
    plain: Any = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))
    known = {*flat(plain), *GROUPS, *(f"{group}.{name}" for file in files.values() for name in file)}
    if group in ("anneal", "augment"):
        return f"unknown knob {found[1]}: there are {', '.join(sorted(k for k in known if k.startswith(f'{group}.')))}"
    close = difflib.get_close_matches(found[1], sorted(known), n=1)
    return f"unknown knob {found[1]}: {f'did you mean {close[0]}?' if close else '--help lists those that there are'}"


OmegaConf.register_new_resolver("manual", manual, replace=True)
OmegaConf.register_new_resolver("debug_folder", lambda debug: "debug/" if debug else "", replace=True)
