"""The file of a teacher: the probabilities that an ensemble gives to all rows of a training file. Torch comes late."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fmnist import UserError
from fmnist.program.files import replacing
from fmnist.program.reading import contents

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Teacher:
    """path: of the file. probabilities: (n, classes) float32, of the n rows of the training file in its order. trained:
    (n,) bool, the rows that a member of the ensemble was trained on. data: the digest of the data set. about: what else
    is to be known of it: the members, the views."""

    path: Path
    probabilities: "Tensor"
    trained: "Tensor"
    data: str
    about: dict[str, Any]

    @property
    def digest(self) -> str:
        """12 hex digits that two teachers share if they say the same of the same data."""
        return hashlib.sha256(self.data.encode() + self.probabilities.numpy().tobytes()).hexdigest()[:12]

    def write(self) -> None:
        """Write the file, whole or not at all."""
        from fmnist.program.packing import packed

        parts = ("probabilities", "trained", "data", "about")
        with replacing(self.path, "wb") as file:
            file.write(packed({name: getattr(self, name) for name in parts}))

    def softened(self, places: "Tensor", temperature: float) -> "Tensor":
        """The probabilities of rows at these places of the training file, (rows, classes) float64, each to the power
        of 1 / temperature and normalised: what a softmax of logits / temperature gives (Hinton et al. 2015)."""
        return (self.probabilities[places].double().log() / temperature).softmax(-1)


def taught(dataset: Any, config: Any) -> Any:
    """A data set (fmnist.data.dataset.Dataset) whose training rows have the probabilities of a config's teacher, at its
    temperature and in its precision. Raises UserError where there is no teacher, and where it is of other data or was
    trained on validation rows."""
    import torch

    file, train, held_out = config.teacher, dataset.train, dataset.validation
    teacher = read(Path(file).expanduser())
    if teacher.data != dataset.digest:
        raise UserError(f"teacher={file} is of other data ({teacher.data} there, {dataset.digest} here)")
    rows, classes = teacher.probabilities.shape
    if classes != dataset.classes or rows < 1 + max(int(part.places.max()) for part in (train, held_out) if part):
        raise UserError(f"teacher={file} is damaged: {rows:,} rows of {classes} classes are not those of the data")
    if held_out and (known := int(teacher.trained[held_out.places].sum())):
        raise UserError(f"teacher={file} was trained on {known:,} of the {len(held_out.labels):,} validation rows, and "
                        "would give them away: data.split=1 trains without any")  # fmt: skip
    soft = teacher.softened(train.places, config.teacher_temperature or 1.0)
    soft = soft.to(train.labels.device, torch.float64 if config.precision == "float64" else torch.float32)
    return replace(dataset, train=replace(train, soft=soft), teacher=teacher.digest)


def read(path: Path) -> Teacher:
    """The teacher in a file. Raises UserError where there is none."""
    from fmnist.program.packing import unpacked

    try:
        content = contents(path)
    except OSError as error:
        raise UserError(f"teacher={path} cannot be read: {error.strerror}") from None
    try:
        found = Teacher(path, **unpacked(content))
        if not _whole(found):
            raise ValueError("is no teacher")
    except MemoryError:
        raise
    except Exception:  # whatever the damage happens to hit
        remedy = "`python -m fmnist.ensemble RUNS --teach FILE` writes one"
        raise UserError(f"teacher={path} is damaged or no teacher: {remedy}") from None
    return found


def _whole(teacher: Teacher) -> bool:
    """Whether it holds what it should."""
    import torch

    p, trained = teacher.probabilities, teacher.trained
    kinds = p.dtype == torch.float32 and trained.dtype == torch.bool and isinstance(teacher.data, str)
    return (
        kinds
        and p.dim() == 2
        and p.shape[:1] == trained.shape
        and bool((p >= 0).all() and ((p.sum(-1) - 1).abs() < 1e-3).all())
    )
