"""`python -m fmnist.predict`: pictures of all kinds and sizes, arrays, folders, standard input; autoencoders."""

import csv
import gzip
import io
import json
import zlib

import numpy as np
import pytest
from attacks.hostile import bounded
from helpers import make_config, said
from PIL import Image, ImageDraw, ImageFilter
from training import KINDS, data_kept, quick_disk  # noqa: F401 - two are fixtures that serve each test

from fmnist import load, predict
from fmnist.data.dataset import load as load_data
from fmnist.library.pictures import dark_on_light
from fmnist.train import engine
from fmnist.train.restore import restore

SMALL = {"data.limit": 1000, "epochs": 4, "batch_size": 50, "figures": False}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A classifier, an autoencoder and a variational one."""
    place = tmp_path_factory.mktemp("runs")
    for name, knobs in {
        "mlp": {"model.hidden": [64], "data.limit": 4000, "epochs": 8},
        "code": KINDS["code"],
        "vae": KINDS["vae"],
    }.items():
        engine.fit([make_config(**SMALL | knobs)], [place / name])
    return place


@pytest.fixture(scope="module")
def images():
    """The first 1,000 test images, (1000, 28, 28) uint8."""
    asked = {"name": "fashion", "dir": None, "split": 0.8, "split_by": "tail", "split_seed": 0, "limit": 1000}
    return load_data(**asked).test.images.view(-1, 28, 28).numpy()


@pytest.fixture
def ask(monkeypatch, capsys):
    """Run the command: its status, its rows, and what it says on stderr."""

    def run(*arguments):
        status, out, err = said(monkeypatch, capsys, predict.main, *arguments)
        return status, list(csv.DictReader(io.StringIO(out))), err

    return run


def write(folder, images):
    """Images as PNG files; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:03}.png")
    return sorted(folder.iterdir())


TROUSERS = [(55, 15), (145, 15), (160, 285), (112, 285), (100, 110), (88, 285), (40, 285)]
BAG = [(20, 130), (70, 130), (75, 70), (125, 70), (130, 130), (180, 130), (190, 270), (10, 270)]


def photograph(outline):
    """A thing of this outline, 200 pixels wide and 300 high, dark on a wall that is lit from above, with noise."""
    picture = Image.new("L", (200, 300), 215)
    ImageDraw.Draw(picture).polygon(outline, fill=60)
    levels = np.asarray(picture.filter(ImageFilter.GaussianBlur(2)), dtype=float)
    levels += np.random.default_rng(0).normal(0, 4, levels.shape) + np.linspace(15, -15, 300)[:, None]
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).convert("RGB")


def test_ten_test_images_as_png_get_the_classes_that_evaluation_gives_them(runs, images, ask, tmp_path):
    stack = restore(runs / "mlp")
    expected = stack.criterion.predict(stack.model(stack.input(stack.dataset.test)))[0, :10].tolist()
    paths = write(tmp_path / "png", images[:10])
    status, rows, err = ask(runs / "mlp", *paths)
    assert (status, err) == (0, "")
    assert [row["class"] for row in rows] == [stack.dataset.names[number] for number in expected]
    assert [row["file"] for row in rows] == [str(path) for path in paths]
    assert list(rows[0]) == ["file", "row", "class", "probability"]
    assert len({row["class"] for row in rows}) > 3


@pytest.mark.parametrize(("outline", "name"), [(TROUSERS, "Trouser"), (BAG, "Bag")])
def test_a_photograph_that_is_dark_on_light_is_said_to_be_turned_over_and_is_classified(
    outline, name, runs, ask, tmp_path
):
    file = tmp_path / "photograph.jpg"
    photograph(outline).save(file)
    status, rows, err = ask(runs / "mlp", file)
    assert status == 0
    assert err == f"1 image is dark on light, and turned over (--as-is leaves them): {file}\n"
    assert rows[0]["class"] == name
    status, as_is, err = ask(runs / "mlp", file, "--as-is")
    assert (status, err) == (0, "")
    assert as_is != rows


def test_the_rule_is_right_for_all_of_the_first_1000_test_images(images):
    """The error rate is 0 in 2,000."""
    assert not dark_on_light(images).any()
    assert dark_on_light(255 - images).all()


def test_all_kinds_of_files_of_the_same_images_give_the_same(runs, images, ask, tmp_path, monkeypatch):
    images = images[:6]
    write(tmp_path / "a" / "b", images)
    _, expected, _ = ask(runs / "mlp", tmp_path / "a")
    assert [row["file"][-7:] for row in expected] == [f"{number:03}.png" for number in range(6)]
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 6, 0, 0, 0, 28, 0, 0, 0, 28]) + images.tobytes()
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    for name, array in {
        "n": images, "flat": images.reshape(6, -1), "fraction": images / 255, "whole": images.astype(int),
        "channel": images[:, None], "fortran": np.asfortranarray(images),
    }.items():  # fmt: skip
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "inverted.npy", 255 - images)
    Image.fromarray(images[0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    ground = Image.fromarray(np.dstack([images[0] * 0, images[0] * 0, images[0] * 0, images[0]]))
    ground.save(tmp_path / "transparent.png")  # black on nothing
    for file in [*tmp_path.glob("*.npy"), *tmp_path.glob("t10k*")]:
        status, rows, err = ask(runs / "mlp", file)
        assert (status, "turned over" in err) == (0, file.stem == "inverted")
        assert [row["class"] for row in rows] == [row["class"] for row in expected]
        assert [row["row"] for row in rows] == [str(number) for number in range(6)]
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes()), "utf-8"))
        assert [{**row, "file": str(file)} for row in ask(runs / "mlp", "-")[1]] == rows
    for file in ("deep.png", "transparent.png"):
        _, rows, _ = ask(runs / "mlp", tmp_path / file)
        assert float(rows[0]["probability"]) == pytest.approx(float(expected[0]["probability"]), abs=0.02)


def test_pictures_of_any_size_keep_their_shape(runs, images, ask, tmp_path):
    large = Image.fromarray(images[2]).resize((280, 280), Image.Resampling.BICUBIC)
    large.save(tmp_path / "large.png")
    wide = Image.new("L", (560, 280))
    wide.paste(large, (140, 0))
    wide.save(tmp_path / "wide.png")
    Image.new("L", (1, 1)).save(tmp_path / "one.png")
    Image.new("L", (3000, 2)).save(tmp_path / "line.png")
    np.save(tmp_path / "many.npy", np.stack([np.asarray(large)] * 2))
    status, rows, _ = ask(runs / "mlp", tmp_path)
    assert status == 0
    assert len(rows) == 6
    assert {row["class"] for row in rows if "large" in row["file"] or "many" in row["file"]} == {"Trouser"}


def test_tables_as_json_in_a_file_with_all_probabilities(runs, images, ask, tmp_path):
    paths = write(tmp_path / "png", images[:3])
    out = tmp_path / "classes.json"
    status, rows, err = ask(runs / "mlp", *paths, "--json", "--probabilities", "--out", out)
    assert (status, rows, err) == (0, [], "")
    found = json.loads(out.read_text(encoding="utf-8"))
    _, table, _ = ask(runs / "mlp", *paths, "--probabilities")
    for row, line in zip(found, table, strict=True):
        shares = row.pop("probabilities")
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert max(shares, key=shares.get) == row["class"]
        assert line == {name: str(value) for name, value in {**row, **shares}.items()}


BAD = {
    "truncated.png": (lambda png: png[:60], "cannot be read as a picture"),
    "text.png": (lambda png: b"hello", "must be a PNG, JPEG, .npy or IDX file"),
    "empty.npy": (lambda png: b"", "must be a PNG, JPEG, .npy or IDX file"),
    "bomb.png": (lambda png: bomb(), "cannot be read as a picture: Image size (400000000 pixels) exceeds limit"),
    "pickle.npy": (lambda png: npy(np.array([{}, []], dtype=object)), "it holds no numbers but object"),
    "huge.npy": (lambda png: npy(np.zeros(1)).replace(b"(1,), ", b"(1" + 12 * b"0" + b",), "), "bytes"),
    "colour.npy": (lambda png: npy(np.zeros((2, 4, 4, 3))), "must be grey images"),
    "negative.npy": (lambda png: npy(np.full((2, 4, 4), -1.0)), "its values are -1 to -1"),
    "t10k-images-idx3-ubyte": (lambda png: bytes([0, 0, 8, 3, 0, 15, 66, 64]) + bytes(8), "empty|bytes"),
}


def npy(array):
    """The bytes of an .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def bomb():
    """The beginning of a PNG file of 20,000 pixels to a side."""
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = (20_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def test_a_file_that_cannot_be_read_is_one_line_and_the_others_are_done(runs, images, ask, tmp_path):
    (good,) = write(tmp_path / "good", images[:1])
    bad = tmp_path / "bad"
    bad.mkdir()
    for name, (make, _) in BAD.items():
        (bad / name).write_bytes(make(good.read_bytes()))
    with bounded():
        status, rows, err = ask(runs / "mlp", bad, tmp_path / "missing.png", good)
    assert status == 1
    assert [row["file"] for row in rows] == [str(good)]
    lines = err.splitlines()
    assert len(lines) == len(BAD) + 1
    assert f"error: {tmp_path / 'missing.png'}: No such file or directory" in lines
    for name, (_, words) in BAD.items():
        (line,) = [line for line in lines if line.startswith(f"error: {bad / name}")]
        assert any(word in line for word in words.split("|")), line


def test_autoencoders_give_scores_reconstructions_and_samples(runs, images, ask, tmp_path, monkeypatch, capsys):
    paths = write(tmp_path / "png", images[:4])
    status, rows, err = ask(runs / "vae", *paths, "--reconstructions", tmp_path / "rebuilt")
    assert (status, err) == (0, "")
    assert list(rows[0]) == ["file", "row", "score", "reconstruction"]
    files = [tmp_path / "rebuilt" / f"{number:05}-{number:03}.png" for number in range(4)]
    assert [row["reconstruction"] for row in rows] == list(map(str, files))
    model = load(runs / "vae")
    for file, image in zip(files, model.reconstruct(images[:4]), strict=True):
        with Image.open(file) as picture:
            assert np.array_equal(np.asarray(picture), np.rint(image * 255))
    for run, files in (("vae", []), ("code", paths)):
        status, out, err = said(monkeypatch, capsys, predict.main, runs / run, *files, "--samples", 3, tmp_path / run)
        assert (status, err) == (0, "")
        assert out.splitlines() == [str(tmp_path / run / f"sample-{number:05}.png") for number in range(3)]


@pytest.mark.parametrize(("run", "arguments", "words"), [
    ("mlp", [], "name a FILE or a folder"),
    ("none", ["a.png"], "no run found in"),
    ("mlp", ["EMPTY"], "holds no PNG, JPEG, .npy or IDX file"),
    ("mlp", ["a.png", "--reconstructions", "EMPTY"], "--reconstructions are for autoencoders"),
    ("vae", ["a.png", "--probabilities"], "--probabilities are for classifiers"),
    ("mlp", ["--samples", "2", "EMPTY"], "is no autoencoder"),
    ("code", ["--samples", "2", "EMPTY"], "has no prior to sample from"),
    ("vae", ["--samples", "0", "EMPTY"], "--samples must be a whole number"),
])  # fmt: skip
def test_a_mistake_in_the_command_is_one_line_and_status_2(run, arguments, words, runs, ask, tmp_path):
    status, rows, err = ask(runs / run, *[tmp_path if word == "EMPTY" else word for word in arguments])
    assert (status, rows, err.count("\n")) == (2, [], 1)
    assert err.startswith("error: ")
    assert words in err


def test_many_files_go_through_in_batches_and_names_are_fit_to_print(runs, images, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "BATCH", 7)
    paths = write(tmp_path / "many", images[:20])
    _, expected, _ = ask(runs / "mlp", *paths)
    assert [row["file"] for row in expected] == [str(path) for path in paths]
    paths[0].rename(tmp_path / "many" / "000\x1b[31m.png")
    (tmp_path / "many" / "notes.txt").write_text("none", encoding="utf-8")
    (tmp_path / "many" / ".hidden.png").write_bytes(b"")
    _, rows, err = ask(runs / "mlp", tmp_path / "many")
    assert [row["class"] for row in rows] == [row["class"] for row in expected]
    assert rows[0]["file"].endswith("000?[31m.png")
    assert err == "left out: 1 file of another kind\n"
