"""TensorBoard's pages of a small sweep in Debian's chromium: what is drawn there. `make test-browser` runs it.

SHOTS=DIR keeps the screenshots that docs/ has.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import run_cli
from selenium import webdriver
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.chrome.service import Service

from fmnist import ROOT

PATIENCE = 90.0  # seconds until a page shows what it must
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--window-size=1400,1000",
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
)  # fmt: skip
COMMON = ("data.limit=1500", "epochs=4", f"data.dir={ROOT / 'data'}")
SWEEP = ("-m", "model=mlp1,deep", "seed=0,1", "dropout=null,0.2", "hydra.launcher.workers=1", "hydra.launcher.stack=4")
SOLO = ("model=mlp2", "dropout=0.3", "histograms=true")
PIERCE = """
const found = [];
const walk = node => {
  if (node.nodeType === 1 && node.matches(arguments[0]) && node.getClientRects().length) found.push(node);
  for (const inner of [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes]) walk(inner);
};
walk(document.body);
return found.map(node => arguments[1] === "text" ? node.textContent.trim() : getComputedStyle(node)[arguments[1]]);
"""
TEXT = """
const walk = node => node.nodeType === 3 ? node.data : ["STYLE", "SCRIPT"].includes(node.nodeName) ? "" :
  [...(node.shadowRoot ? [node.shadowRoot] : []), ...node.childNodes].map(walk).join(" ");
return walk(document.body);
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """A sweep of two models, two seeds, with dropout and without, and a single run."""
    folder = tmp_path_factory.mktemp("browser")
    for words in ((*SWEEP, "hydra.sweep.dir=sweep"), (*SOLO, "hydra.run.dir=solo")):
        done = run_cli(*words, *COMMON, cwd=folder, fresh=True)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def address(outputs):
    """Gives the address of a TensorBoard of a directory, as the command that a run prints starts it."""
    started = {}

    def serve(name):
        if name not in started:
            log = outputs / f"{name}.log"
            command = [sys.executable, "-m", "fmnist.board", name, "--port=0", "--reload_interval=1"]
            with open(log, "wb") as out:
                process = subprocess.Popen(command, cwd=outputs, stdout=out, stderr=out)
            pattern = r"http://127\.0\.0\.1:\d+/"
            started[name] = process, until(lambda: re.search(pattern, log.read_text(encoding="utf-8")), "an address")[0]
        return started[name][1]

    yield serve
    for process, _ in started.values():
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    yield driver
    driver.quit()


def until(ask, what):
    """The first true answer."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if answer := ask():
                return answer
        except (JavascriptException, AssertionError):
            pass
        time.sleep(0.3)
    raise AssertionError(f"not seen: {what}")


class Page:
    """A page of TensorBoard."""

    def __init__(self, browser, address, tab):
        self.browser = browser
        browser.get("about:blank")
        browser.get(f"{address}#{tab}")

    def text(self):
        return re.sub(r"\s+", " ", self.browser.execute_script(TEXT))

    def shows(self, *parts):
        until(lambda: all(part in self.text() for part in parts), f"{parts} in {self.text()[:2000]}")

    def all(self, selector, what="text", at_least=1):
        """Texts, or a style, of the elements that match, wherever they are in shadow roots."""

        def enough():
            found = self.browser.execute_script(PIERCE, selector, what)
            return found if len(found) >= at_least else None

        return until(enough, f"{at_least} of {selector}")

    def shot(self, name):
        """Keep a screenshot, and see that the browser has not complained."""
        assert not [entry for entry in self.browser.get_log("browser") if entry["level"] == "SEVERE"]
        if folder := os.environ.get("SHOTS"):
            time.sleep(2)
            self.browser.save_screenshot(str(Path(folder, f"{name}.png")))


@pytest.fixture
def page(browser, address):
    return lambda tab, name="sweep": Page(browser, address(name), tab)


def test_hparams_opens_on_the_knobs_that_differ_and_has_a_row_for_each_run(page):
    hparams = page("hparams")
    hparams.shows("Number of matching session groups: 8")
    titles = hparams.all(".table-header.table-cell", at_least=10)
    assert titles[:5] == ["Trial ID", "Show Metrics", "dropout", "model", "seed"]
    assert titles[-4:] == ["accuracy", "loss", "test/accuracy", "test/loss"]
    cells = [text for text in hparams.all(".table-cell", at_least=8 * 9) if text.startswith("sweep/")]
    names = [f"sweep/model-{model}+seed-{seed}+dropout-{p}" for model in ("deep", "mlp1") for seed in (0, 1)
             for p in ("0.2", "null")]  # fmt: skip
    assert sorted(cells) == names
    knobs = {text.split()[0] for text in hparams.all(".hparam", at_least=20)}
    assert {"model.hidden", "model.depth", "dropout_rescale"} <= knobs  # of both models
    assert not {"patience", "grad_clip", "skip", "norm", "anomaly.normal"} & knobs  # null in all runs
    hparams.shot("hparams")


@pytest.mark.parametrize("tab", ["custom_scalars", "scalars"])
def test_training_and_validation_are_two_colours_in_one_chart(tab, page):
    scalars = page(tab, "solo")
    scalars.shows("solo/train", "solo/validation", "loss", "accuracy")
    colours = scalars.all(".line-plot:not(.ghost) path", "stroke", at_least=4)
    assert len(colours) == 4  # two curves in two charts
    assert len(set(colours)) == 2
    if tab == "custom_scalars":
        assert scalars.text().count("Matches (2)") == 2
    scalars.shot(tab)


def test_a_sweep_has_two_curves_a_run_in_each_chart(page):
    curves = page("custom_scalars")
    assert len(curves.all(".line-plot:not(.ghost) path", "stroke", at_least=32)) == 32
    curves.shot("custom_scalars_sweep")


def test_time_series_shows_curves_and_all_runs(page):
    series = page("timeseries", "solo")
    series.shows("solo/train", "solo/validation", "accuracy", "weights", "share of dead units by layer")
    assert len(set(series.all("button.run-color-swatch", "background-color", at_least=2))) == 2
    series.shot("timeseries")


def test_images_are_mistakes_confusion_calibration_and_weights(page):
    images = page("images", "solo")
    images.shows("test/calibration", "test/confusion", "test/mistakes")
    widths = [float(width.removesuffix("px")) for width in images.all("img", "width", at_least=4)]
    assert len(widths) == 4
    assert all(width > 300 for width in widths)
    images.shot("images")


def test_text_is_the_command_and_the_config(page):
    text = page("text", "solo")
    text.shows("python train.py model=mlp2 dropout=0.3", "report/index.html", 'schedule: "one_cycle"')
    assert len(text.all("pre", at_least=3)) == 3
    text.shot("text")


def test_precision_by_recall_has_a_chart_for_each_class(page):
    curves = page("pr_curves", "solo")
    curves.shows("00 T-shirt or top", "01 Trouser")
    assert curves.all(".line-plot path", "stroke", at_least=1)
    curves.shot("pr_curves")


def test_histograms_are_by_layer_in_order(page):
    bars = page("histograms", "solo")
    bars.shows("activations/01_of_300", "activations/02_of_100", "gradients/01_784_to_300", "weights",
               "share of dead units by layer")  # fmt: skip
    assert len(bars.all("vz-histogram-timeseries", at_least=4)) >= 4
    bars.shot("histograms")


def test_the_graph_has_the_layers(page):
    graph = page("graphs", "solo")
    names = " ".join(graph.all("text", at_least=9))
    for name in ("images", "01_Linear", "02_relu", "03_Dropo", "07_Linear", "output"):
        assert name in names
    graph.shot("graphs")


def test_the_projector_has_a_point_for_each_image(page):
    projector = page("projector", "solo")
    for _ in range(2):  # it has a document of its own, in one that loads it
        (frame,) = until(lambda: projector.browser.find_elements("css selector", "iframe"), "the projector")
        projector.browser.switch_to.frame(frame)
    projector.shows("Points: 1000", "Dimension: 100")
    projector.browser.switch_to.default_content()
    projector.shot("projector")


def test_one_run_has_the_name_of_its_directory(page):
    assert sorted(page("scalars", "solo").all(".name-row", at_least=2)) == ["solo/train", "solo/validation"]
