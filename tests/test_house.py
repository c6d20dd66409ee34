"""docs/house.svg, the picture of who imports whom, shows the code as it is. `python docs/house.py --draw` draws it."""

import re

import house

STATED = [int(number.replace(",", "")) for number in re.findall(r">([\d,]+) lines<", house.PICTURE.read_text("utf-8"))]


def test_the_picture_shows_the_imports_as_they_are():
    assert house.PLACES.keys() == {*house.MAY_IMPORT, ""}
    count = dict(zip(house.PLACES, STATED, strict=True))  # a few lines more or fewer need no new picture
    assert house.drawn(count) == house.PICTURE.read_text(encoding="utf-8"), "python docs/house.py --draw"


def test_the_picture_says_nearly_how_long_each_package_is():
    count = house.lines()
    for name, stated in zip(house.PLACES, STATED, strict=True):
        assert name == "ideas" or abs(stated - count[name]) <= max(100, count[name] / 5), "python docs/house.py --draw"


def test_every_import_is_one_arrow_which_leads_down():
    shown = re.findall(r"<title>(\w+) imports (\w+)</title>", house.PICTURE.read_text(encoding="utf-8"))
    assert len(shown) == len(set(shown))
    assert {("" if a == "fmnist" else a, b) for a, b in shown} == house.arrows()
    floors = list(house.PLACES)
    assert not [pair for pair in house.arrows() if floors.index(pair[0]) >= floors.index(pair[1])]


def test_the_page_of_the_design_has_every_module_in_the_table_of_its_package():
    text = (house.ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    tables = re.findall(r"^### (\w+): .*\n\| module .*\n\|.*\n((?:\|.*\n)+)", text, re.MULTILINE)
    listed = [f"fmnist.{package}.{name}" for package, rows in tables for name in re.findall(r"^\| (\w+) ", rows, re.M)]
    modules = {name for name in house.modules() if name.count(".") == 2 and not name.endswith("__main__")}
    assert len(listed) == len(set(listed))
    unlisted = modules ^ set(listed)
    assert {house.package(name) for name in unlisted} <= {"ideas"}  # anybody may put a file there


def test_the_readme_names_the_files_of_one_run_in_their_order_and_about_how_long_they_are():
    first = house.modules()["fmnist"].read_text(encoding="utf-8").split('"""')[1].split("order:")[1]
    names = [name.strip(" \n.") if "/" in name else "train.py" for name in first.split(",")]
    readme = (house.ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.split("## The core")[1].split("##")[0]
    assert re.findall(r"`(train\.py|\w+/\w+)`", section) == names
    (stated,) = re.findall(r"about ([\d,]+) lines", section)
    files = [house.ROOT / name if name == "train.py" else house.PACKAGE / f"{name}.py" for name in names]
    lines = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)
    assert abs(int(stated.replace(",", "")) - lines) <= lines / 10
