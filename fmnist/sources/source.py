"""The four files of a data set as one: they fit one another, their classes have names, a digest tells which bytes they
are. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fmnist import UserError
from fmnist.program.reading import contents
from fmnist.sources import sums
from fmnist.sources.idx import File, among, locate, read, read_file, sideways, split

TRAIN, TEST = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
FILES = (*TRAIN, *TEST)
LONGEST = 1 << 20  # bytes of a file of names
TURNED = "EMNIST stores its images column by column; they are turned upright"


@dataclass(frozen=True, eq=False)
class Source:
    """files: four by the names of FILES, in this order. labels: of each class in the files, ascending. names: of the
    classes. digest: which bytes these are, 16 hex digits. remarks: what whoever uses the data should know."""

    files: Mapping[str, File]
    labels: tuple[int, ...]
    names: tuple[str, ...]
    digest: str
    remarks: tuple[str, ...] = ()

    def numbered(self) -> "Source":
        """The same with classes that are numbered by their labels. So had them runs whose records name no digest; where
        it makes a difference, this has none either."""
        every = tuple(range(self.labels[-1] + 1))
        if self.labels == every:
            return self
        files = {name: among(file, every) if file.labels else file for name, file in self.files.items()}
        return replace(self, files=files, labels=every, names=tuple(map(str, every)), digest="")


def joined(files: Mapping[str, File], place: Path | None, names: tuple[str, ...] = ()) -> Source:
    """Four files as one. names: of the classes, whose labels are 0, 1, ... then; without any they are looked for in
    `place`. Errors: UserError where the files do not fit one another."""
    images, labels, test_images, test_labels = (files[name] for name in FILES)
    known = tuple(range(len(names))) or labels.labels
    pairs = [*_fitting(images, labels, known), *_fitting(test_images, test_labels, known)]
    if test_images.shape[1:] != images.shape[1:]:
        found, must = ("x".join(map(str, file.shape[1:])) for file in (test_images, images))
        raise UserError(f"{test_images.path}: images are {found}, but {must} in {images.path.name}")
    remarks = (TURNED,) if sideways(images.path) else ()
    digest = sums.short(*(_stamp(file.path, file.sha256) for file in pairs))
    return Source(dict(zip(FILES, pairs, strict=True)), known, names or class_names(place, known), digest, remarks)


def _fitting(images: File, labels: File, known: tuple[int, ...]) -> tuple[File, File]:
    """Images with their labels, as places among those that are known."""
    if images.shape[0] != labels.shape[0]:
        counts = f"{labels.shape[0]} labels, must be {images.shape[0]}"
        raise UserError(f"{labels.path}: {counts} as the images in {images.path.name}")
    return images, among(labels, known)


def _stamp(path: Path, sha256: str) -> str:
    """A file's sum, and that its images are turned: the same bytes would be other data if they were not."""
    return f"{sha256} turned" if sideways(path) else sha256


def lacking(trained: Sequence[int], held_out: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    """A remark where training rows lack a class that validation rows have, or these lack one although they are many;
    given how many rows of each class there are."""
    many = sum(held_out) >= 5 * len(names)
    rows = list(zip(trained, held_out, names, strict=True))
    missing = {
        "training": [name for own, other, name in rows if other and not own],
        "validation": [name for other, own, name in rows if many and other and not own],
    }
    said = [f"{part} rows lack class {', '.join(classes)}" for part, classes in missing.items() if classes]
    return (f"{' and '.join(said)}: data.split_by=stratified gives both a share of each",) if said else ()


def digest_of(place: Path) -> str:
    """The digest that the data set of a place has; files whose sums are known are not read. Errors: UserError."""
    found = []
    for name in FILES:
        path = locate(place, name)
        found.append(_stamp(path, sums.known(path) or read(path, "images" in name).sha256))
    sums.keep()
    return sums.short(*found)


def test_set_of(place: Path, labels: tuple[int, ...], names: tuple[str, ...]) -> tuple[File, File]:
    """The test images of another place and their classes, as places among those of a data set with these labels and
    names: by their own names where that place names them, otherwise by their labels. Errors: UserError."""
    images, own = (read_file(place, name, None) for name in TEST)
    if given := _names(place, own.labels):
        if others := [name for name in given if name not in names]:
            raise UserError(f"{own.path}: class {others[0]}, must be one of {', '.join(names)}")
        own = replace(own, labels=tuple(names.index(name) for name in given))
        labels = tuple(range(len(names)))
    return _fitting(images, own, labels)


def class_names(place: Path | None, labels: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the classes with these labels: those that a place has beside its files, or the labels themselves.

    classes.txt has a name a line, for the labels 0, 1, ... or, where there are as many lines as labels, for these in
    their order. EMNIST-mapping.txt has a label a line and the codes of its characters. Errors: UserError.
    """
    return (_names(place, labels) if place else ()) or tuple(map(str, labels))


def _names(place: Path, labels: tuple[int, ...]) -> tuple[str, ...]:
    """The names of classes as a place has them; () without any."""
    folder, beginning = split(place)
    own = f"{beginning}-" if beginning else ""
    for path in (folder / f"{own}classes.txt", folder / "classes.txt", folder / f"{own}mapping.txt"):
        if path.is_file() and (own or path.name == "classes.txt"):
            return _read_names(path, labels)
    return ()


def _read_names(path: Path, labels: tuple[int, ...]) -> tuple[str, ...]:
    try:
        lines = contents(path, LONGEST).decode("utf-8-sig").rstrip().splitlines()
        rows = [line.split() for line in lines]
        if path.name.endswith("mapping.txt"):
            named = {int(label): "/".join(chr(int(code)) for code in codes) for label, *codes in rows}
        elif len(lines) > labels[-1] and labels[0] >= 0:
            named = dict(enumerate(map(str.strip, lines)))
        else:
            named = dict(zip(labels, map(str.strip, lines), strict=True))
        names = tuple(named[label] for label in labels)
    except (OSError, ValueError, KeyError, OverflowError) as error:
        reason = error if isinstance(error, OSError) else f"it does not name each of the {len(labels)} labels once"
        raise UserError(f"{path}: cannot be read: {reason}") from error
    if "" in names or len(set(names)) < len(names):
        raise UserError(f"{path}: names of classes must be different, and not empty")
    return names
