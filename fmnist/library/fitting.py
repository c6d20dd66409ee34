"""`fit`: one run from a notebook or a script, by what trains all others. No torch until there is something to train."""

import os
import signal
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist import ROOT, UserError
from fmnist.config.parse import check_machine, flat, parse
from fmnist.config.schema import Config
from fmnist.launch.callbacks import own
from fmnist.launch.commands import quoted
from fmnist.launch.locks import alone, check_free
from fmnist.launch.machine import set_threads
from fmnist.launch.manual import mistake
from fmnist.launch.names import is_swept
from fmnist.launch.worker import train_group
from fmnist.program.files import replacing
from fmnist.record.result import Outcome, check_directory, read_result
from fmnist.sources.fetch import digest

if TYPE_CHECKING:
    from fmnist.library.model import Model

OWN_IMAGES = ("data=idx", "data.split_by=stratified")  # they may lie in the order of their classes
COMMANDS = ("study=", "dry_run=", "-")  # words of a command line that do not describe one run
TEST_SHARE = 0.2  # of images of one's own that are set aside, where there are none to test with
COMPOSING = threading.Lock()  # Hydra is one in a process
ONE_RUN = ("hydra/launcher=basic", "hydra/sweeper=basic")  # their plugins need not be on the path


def fit(
    *overrides: str, directory: str | Path | None = None, images: Any = None, labels: Any = None,
    test_images: Any = None, test_labels: Any = None, progress: bool = True, **knobs: Any,
) -> "Model":  # fmt: skip
    """Train one run, and give back its model: fit("model=mlp2", dropout=0.5, data__limit=1000).

    overrides: as one types them after `python train.py`. knobs: the same as keywords; "__" stands for the "." of a
    knob of a group. directory: of the run; a new one below outputs/ by default. In that of a run with the same config
    it goes on, or is done already. progress: whether a bar shows how it goes.

    images, labels: of one's own, (n, height, width) uint8 or floats in [0, 1], and whole numbers or names. They are
    kept in the run's directory. Those to validate with are drawn class by class. Where there are none to test with, a
    fifth of each class is set aside.

    Ctrl-C ends the epoch, saves everything and raises KeyboardInterrupt; the same call with the run's directory goes
    on. Raises UserError for a mistake, and for a run that fails, such as one whose loss is not finite.
    """
    arrays = (images, labels), (test_images, test_labels)
    files = {} if all(each is None for pair in arrays for each in pair) else idx_files(*arrays)
    given, place = composed([*(OWN_IMAGES if files else ()), *overrides, *as_overrides(knobs)])
    place = Path(os.path.expanduser(directory)) if directory is not None else place
    if files:
        given["data"]["dir"] = str(place / "data")
    config = parse(given)
    check_free(*place.absolute().parents)
    with alone(place):
        _keep(files, place)
        check_machine(config)
        check_directory(config, place, digest)
        set_threads()  # as in a worker process of scikit-learn's
        outcome = _train(config, place, progress)
    if outcome.error:
        raise UserError(f"{place}: {outcome.error}")
    from fmnist.library.model import load

    return load(place)


def as_overrides(knobs: Mapping[str, Any]) -> list[str]:
    """Keywords as overrides: {"model__hidden": [20]} is model.hidden=[20], and so is {"model": {"hidden": [20]}}."""
    return [_override(name, value) for name, value in flat({k.replace("__", "."): v for k, v in knobs.items()}).items()]


def _override(name: str, value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        return quoted(name, str(value))
    return f"{name}={_plain(value)}"


def _plain(value: Any) -> str:
    """A number, a truth value, None or a list of these, as Hydra's grammar has it."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_plain, value))}]"
    value = value.item() if hasattr(value, "item") else value  # a number of numpy's
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)


def composed(overrides: list[str]) -> tuple[dict[str, Any], Path]:
    """The config of one run as plain values, and the directory that a new run gets. Raises UserError where there is no
    such knob or no such value. A program of Hydra's that is running stays as it is."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    with COMPOSING:
        running = GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()
        try:
            for word in overrides:
                _check_word(word)
            with initialize_config_dir(str(ROOT / "conf"), job_name="train", version_base="1.3"):
                config = compose("config", [*ONE_RUN, *overrides], return_hydra_config=True)
            plain: Any = OmegaConf.to_container(own(config), resolve=True)
            return plain, Path(config.hydra.run.dir)
        except HydraException as error:
            raise UserError(mistake(error)) from None
        except OmegaConfBaseException as error:
            raise UserError(str(error).splitlines()[0]) from None
        finally:
            GlobalHydra.instance().hydra = running


def _check_word(word: str) -> None:
    """Raise UserError for a word that is no override, or one for something else than one run."""
    from hydra.errors import HydraException

    try:
        if word.lstrip("+").startswith(COMMANDS) or is_swept(word):
            raise UserError(f"fit trains one run: {word} is for `python train.py`")
    except HydraException as error:
        raise UserError(f"{word} is no override: {str(error).splitlines()[0]}") from None


def idx_files(train: tuple[Any, Any], test: tuple[Any, Any]) -> dict[str, bytes]:
    """Images with labels, to train and to test with, as the files of a data set. Raises UserError for what is none."""
    from fmnist.sources.convert import Part, contents, parted

    parts = {"train": Part(*_labelled("", *train))}
    if test[0] is None and test[1] is None:
        if max(Counter(parts["train"].labels.tolist()).values()) * TEST_SHARE <= 0.5:
            raise UserError("test_images must be given: there are too few images to set a fifth of each class aside")
        parts = parted(parts["train"], TEST_SHARE, 0)
    else:
        parts["test"] = Part(*_labelled("test_", *test))
    return dict(contents(parts))


def _labelled(prefix: str, images: Any, labels: Any) -> tuple[Any, Any]:
    """Images (n, height, width) in grey levels and their labels (n,)."""
    import numpy as np

    from fmnist.library.images import as_bytes
    from fmnist.sources.convert import labels_of

    if images is None or labels is None:
        raise UserError(f"{prefix}images and {prefix}labels must be given together")
    levels = as_bytes(images)
    if levels.ndim == 4 and levels.shape[1] == 1:
        levels = levels[:, 0]
    if levels.ndim == 2 and round(levels.shape[1] ** 0.5) ** 2 == levels.shape[1]:
        levels = levels.reshape(len(levels), round(levels.shape[1] ** 0.5), -1)
    if levels.ndim != 3 or not levels.size:
        raise UserError(f"{prefix}images must have the shape (n, height, width), got {levels.shape}")
    found = labels_of(f"{prefix}labels", np.asarray(labels))
    if len(found) != len(levels):
        raise UserError(f"there are {len(levels)} {prefix}images and {len(found)} {prefix}labels")
    return levels, found


def _keep(files: Mapping[str, bytes], place: Path) -> None:
    """Write the files of a data set into a run's directory. Raises UserError where it has others."""
    folder = place / "data"
    for name, content in files.items():
        if (there := folder / name).exists() and there.read_bytes() != content:
            raise UserError(f"{place} holds a run on other images: choose another directory")
        if not there.exists():
            folder.mkdir(exist_ok=True)
            with replacing(there, "wb") as file:
                file.write(content)


def _train(config: Config, place: Path, shown: bool) -> Outcome:
    """Train a run; how it ended. A first Ctrl-C ends the epoch and becomes KeyboardInterrupt."""
    begun = int((read_result(place) or {}).get("epoch") or 0)
    try:
        with _bar(config.epochs, begun, shown) as bar:
            (outcome,) = train_group([config], [place], listener=_Screen(bar))
    except SystemExit as leaving:
        if leaving.code != 128 + signal.SIGINT:
            raise
        raise KeyboardInterrupt(f"all is saved: fit(..., directory={str(place)!r}) goes on") from None
    return outcome


@contextmanager
def _bar(epochs: int, begun: int, shown: bool) -> Iterator[Any]:
    """A progress bar: a widget in a notebook that has widgets, otherwise text; none where nobody would see it move."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # there are no widgets: it takes text then
        from tqdm.auto import tqdm

    notebook = "ipykernel" in sys.modules
    hidden = not shown or not (notebook or (sys.stderr is not None and sys.stderr.isatty()))
    with tqdm(total=epochs, initial=begun, unit="epoch", disable=hidden, dynamic_ncols=not notebook) as bar:
        yield bar


class _Screen:
    """Shows how a run trains: moves a bar, and says what its log warns of."""

    def __init__(self, bar: Any) -> None:
        self.bar = bar

    def reached(self, runs: Any, epoch: int) -> None:
        """Move the bar to that epoch."""
        self.bar.update(max(0, epoch - self.bar.n))

    def ended(self, run: int, outcome: Outcome) -> None:
        """The caller is told."""

    def halved(self, runs: Any, what: str, why: str) -> None:
        """It is one run."""

    def remarked(self, text: str) -> None:
        """A warning of the run's log, of which there is nothing on the screen."""
        warnings.warn(text, stacklevel=2)
