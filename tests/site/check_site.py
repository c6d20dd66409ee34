"""The built documentation site, site/: it loads nothing from elsewhere, its links lead somewhere, its pages are whole.

`make docs` builds it and runs this file.
"""

import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "site"
PAGES = sorted(SITE.rglob("*.html"))
SOURCES = sorted(path for path in (ROOT / "docs").rglob("*.md"))
# The theme's program has these addresses in it: for pages with a Mermaid diagram, for browsers of before 2020, and for
# sites that name a repository. None is asked for here, and a browser would refuse it by the policy of each page.
NOT_ASKED = (
    "https://unpkg.com/mermaid", "https://unpkg.com/resize-observer-polyfill", "https://api.github.com",
    "https://${e}/api/v4/projects",
)  # fmt: skip
NAMES = ("http://www.w3.org/", "https://mozilla.org/MPL")  # of formats and licences: nothing is at them to be loaded
LOADS = {  # the attributes of each element that a browser loads at once
    "script": "src", "img": "src srcset", "iframe": "src", "source": "src srcset", "video": "src poster",
    "audio": "src", "embed": "src", "object": "data", "use": "href", "input": "src", "track": "src",
}  # fmt: skip


class Page(HTMLParser):
    """What a page loads, where its links lead, the ids in it, its policies and its text."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.links, self.ids, self.policies, self.text, self.headings = [], [], set(), [], [], 0
        self.skipped = 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.headings += tag == "h1"
        self.skipped += tag in ("script", "style", "code")
        self.ids |= {given[name] for name in ("id", "name") if given.get(name)}
        for attribute in LOADS.get(tag, "").split():
            value = given.get(attribute) or ""
            parts = value.split(",") if attribute == "srcset" else [value]
            self.loads += [part.split()[0] for part in parts if part.strip()]
        if tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(given["href"])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get("http-equiv", "").lower() == "content-security-policy":
            self.policies.append(given["content"])
        self.loads += of_css(given.get("style") or "")

    def handle_endtag(self, tag):
        self.skipped -= tag in ("script", "style", "code")

    def handle_data(self, data):
        if not self.skipped:
            self.text.append(data)


@cache
def page(path):
    return Page(path.read_text(encoding="utf-8"))


def of_css(text):
    """What a style sheet loads."""
    found = re.findall(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", text)
    return [address for pair in found for address in pair if address]


def is_outside(address):
    return bool(re.match(r"(?!data:)[a-z][a-z0-9+.-]*:|//", address.strip(), re.IGNORECASE))


def test_the_site_has_a_page_for_each_source():
    expected = {str(path.relative_to(ROOT / "docs").with_suffix(".html")) for path in SOURCES}
    assert expected <= {str(path.relative_to(SITE)) for path in PAGES}
    assert len(expected) > 25


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_a_page_loads_nothing_from_elsewhere_and_its_policy_forbids_it(path):
    assert not [address for address in page(path).loads if is_outside(address)]
    (policy,) = page(path).policies
    assert "default-src 'self'" in policy
    assert "http" not in policy
    styles = re.findall(r"<style[^>]*>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert not [address for style in styles for address in of_css(style) if is_outside(address)]


def test_style_sheets_and_programs_name_no_place_elsewhere():
    sheets = sorted(SITE.rglob("*.css"))
    programs = sorted(SITE.rglob("*.js"))
    assert sheets
    assert programs
    for path in sheets:
        assert not [address for address in of_css(path.read_text(encoding="utf-8")) if is_outside(address)], path
    for path in programs:
        named = re.findall(r"[\"'`](https?://[^\"'`\s]*|//[\w.-]+\.\w+/[^\"'`\s]*)", path.read_text(encoding="utf-8"))
        assert not [address for address in named if not address.startswith(NOT_ASKED + NAMES)], path


@pytest.mark.parametrize("path", [path for path in PAGES if path.name != "404.html"], ids=lambda path: path.stem)
def test_the_links_of_a_page_lead_somewhere(path):
    for link in page(path).links:
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme in ("http", "https", "mailto"), link
            assert parts.netloc or parts.scheme == "mailto", link
            continue
        assert not link.startswith("/"), f"{link}: the site may lie in any folder"
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        assert target.is_file(), link
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in page(target).ids | {"__comments"}, link


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(SITE)))
def test_a_page_is_whole(path):
    assert page(path).headings == 1
    text = "".join(page(path).text)
    for left_over in ("{{", "$$", "```", "???", "\\frac", "| --- |"):
        assert left_over not in text
    for picture in re.findall(r'<img[^>]*src="([^"]+)"', path.read_text(encoding="utf-8")):
        assert (path.parent / unquote(picture)).is_file()


def test_each_formula_is_drawn_by_the_browser_itself():
    asked = sum(len(re.findall(r"^\$\$$", path.read_text(encoding="utf-8"), re.MULTILINE)) for path in SOURCES) // 2
    drawn = sum(path.read_text(encoding="utf-8").count('<div class="formula"><span><math ') for path in PAGES)
    assert drawn == asked > 10


def test_each_page_is_found_by_the_search():
    index = json.loads((SITE / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].split("#")[0] for entry in index["docs"]}
    assert {str(path.relative_to(SITE)) for path in PAGES} - {"404.html"} <= found


@pytest.mark.parametrize("planted", [
    '<script src="https://cdn.example.org/x.js"></script>', '<link rel="stylesheet" href="//fonts.example.org/css">',
    '<img srcset="a.png 1x, https://example.org/b.png 2x">', '<p style="background: url(http://example.org/c.png)">',
    '<link rel="preconnect" href="https://fonts.gstatic.com" crossorigin>',
])  # fmt: skip
def test_what_is_loaded_from_elsewhere_is_found(planted):
    assert [address for address in Page(planted).loads if is_outside(address)]


def test_what_lies_here_is_not_taken_for_elsewhere():
    here = Page('<img src="a/b.png"><img src="data:image/png;base64,AA"><link rel="icon" href="../x.png"><a href="x">')
    assert len(here.loads) == 3
    assert not [address for address in here.loads if is_outside(address)]
