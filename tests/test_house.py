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
        assert abs(stated - count[name]) <= max(100, count[name] / 5), "python docs/house.py --draw"


def test_every_import_is_one_arrow_which_leads_down():
    shown = re.findall(r"<title>(\w+) imports (\w+)</title>", house.PICTURE.read_text(encoding="utf-8"))
    assert len(shown) == len(set(shown))
    assert {("" if a == "fmnist" else a, b) for a, b in shown} == house.arrows()
    floors = list(house.PLACES)
    assert not [pair for pair in house.arrows() if floors.index(pair[0]) >= floors.index(pair[1])]
