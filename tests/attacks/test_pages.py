"""HTML, script and Markdown in all that a report shows of a run: shown as text. No element is made of it."""

import html
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from report.made_up import change, change_config, leave_mistakes, weigh, write_run

from fmnist.program.output import printable
from fmnist.report.leaderboard import Leaderboard
from fmnist.report.page import SCRIPT, report
from fmnist.report.page import html as page_of
from fmnist.report.tables import Table, code, escape

TAGS = {"h1", "h2", "h3", "p", "strong", "code", "table", "thead", "tbody", "tr", "th", "td", "img"}
TOKENS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?php",
    "?>",
    "<!doctype",
    "</td></table>",
    "</style>",
    "</body>",
    "<a href='javascript:alert(1)'>",
    "[x](javascript:alert(1))",
    "![x](http://a.b/c)",
    "[x]: http://a.b",
    "<http://a.b>",
    "`",
    "``",
    "```",
    "~~~",
    "|",
    "\\",
    "**",
    "__",
    "*a*",
    "_b_",
    "# ",
    "> ",
    "- ",
    "1. ",
    "---",
    "    ",
    "\t",
    "\n",
    "\n\n",
    "&lt;",
    "&#60;script&#62;",
    "&",
    '"',
    "'",
    "{: onclick=x }",
    "[TOC]",
    "[^1]",
    "http://a.b",
    "\x02",
    "\x03",
    "\x02amp\x03",
    "klzzwxh:0001",
    "\x02klzzwxh:0\x03",
    "\x02wzxhzdk:0\x03",
    "wzxhzdk:0",
    "\u202e",
    "\x1b[31m",
    "a",
    " ",
]


class Elements(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def unknown_decl(self, data):
        self.found.append(("!", data))

    handle_comment = handle_pi = unknown_decl


def body(page):
    """What stands between the heading of a page and its own script."""
    assert page.count("<script>") == 1
    assert page.count(f"<script>{SCRIPT}</script>\n</body>\n</html>\n") == 1
    return page[page.index("<body>") + 6 : page.index("<script>")]


def words(text):
    """What is left of a text when space and what cannot be printed are left out."""
    return "".join(sign for sign in text if sign.isprintable() and not sign.isspace())


@settings(max_examples=150)
@given(st.lists(st.sampled_from(TOKENS), min_size=1, max_size=7).map("".join))
@example("<!--")
@example("<script>alert(1)</script>`\x02")
@example("\x02klzzwxh:0\x03")
def test_any_text_is_shown_as_it_is(hostile):
    """As a title, a heading, code, a caption, a cell and the header of a table."""
    table = Table([hostile, "b"], [[hostile, "1"], ["a", hostile]], strong=(1,))
    parts = [
        f"# {escape(hostile)}",
        f"### Compared with {escape(hostile)}",
        f"Made by {code(hostile)}.",
        f"Words. {escape(hostile)}",
        table.markdown(),
        "The end.",
    ]
    page = page_of(hostile, "\n\n".join(part.strip() for part in parts) + "\n", {})
    found = Elements(body(page))
    assert {tag for tag, _ in found.found} <= TAGS
    assert not any(attributes for _, attributes in found.found)
    expected = [
        "h1",
        "h3",
        "p",
        "code",
        "p",
        "table",
        "thead",
        "tr",
        "th",
        "th",
        "tbody",
        "tr",
        "td",
        "td",
        "tr",
        "td",
        "strong",
        "td",
        "strong",
        "p",
    ]
    if plain := words(printable(hostile)).strip("#"):  # signs at the end of a heading are left out
        assert [tag for tag, _ in found.found] == expected
        assert words(found.text).count(plain) >= 6


@pytest.mark.long
@pytest.mark.parametrize("hostile", ["".join(TOKENS[:24]), "".join(TOKENS[24:])])
def test_a_report_of_hostile_runs_has_no_element_of_theirs(hostile, tmp_path):
    name = hostile.replace("/", "").replace("\n", " ")[:80]
    for number in range(2):
        run = write_run(tmp_path / name / f"{name}{number}", 0.5 + number / 10, seed=number)
        change_config(run, **{hostile: hostile, "schedule": hostile, "skip_scale": f"{hostile}{number}"})
        change(run, commit=hostile, commits=[hostile], data=hostile)
        change(run, seconds=10.0**number)
        leave_mistakes(weigh(run, 10 + 10**number), classes=[hostile, f"{hostile}2"])
        metrics = {"validation/accuracy": 0.5, "test/accuracy": 0.5, f"test/{hostile}": 0.25, hostile: 0.5}
        change(run, metrics=metrics)
    write_run(tmp_path / name / "failed", 0.1, "failed", error=hostile, seed=7)
    change(write_run(tmp_path / name / "other", 0.1, seed=8), status=hostile)
    report([tmp_path / name], tmp_path / "page", command=hostile)
    assert {"confusion.svg", "mistakes.svg", "tradeoffs.svg"} <= {path.name for path in (tmp_path / "page").iterdir()}
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    found = Elements(body(page))
    assert {tag for tag, _ in found.found} <= TAGS
    for tag, attributes in found.found:
        assert set(attributes) <= ({"src", "alt"} if tag == "img" else set()), (tag, attributes)
        assert attributes.get("src", "data:image/svg+xml;base64,").startswith("data:image/svg+xml;base64,")
    assert f"<title>Report on {html.escape(name)}</title>" in page
    for picture in (tmp_path / "page").glob("*.svg"):
        text = picture.read_text(encoding="utf-8")
        assert not {"script", "a", "foreignobject", "iframe"} & {tag for tag, _ in Elements(text).found}
        assert not [tag for tag, attributes in Elements(text).found for key in attributes or () if key.startswith("on")]
    Leaderboard(tmp_path / name).write()
