"""Every link from one page of the clone to another leads somewhere, to its heading too."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

CLONE = Path(__file__).parents[3]
PAGES = [
    CLONE / "README.md",
    *sorted((CLONE / "docs").rglob("*.md")),
    *sorted(path for path in (CLONE / "examples").rglob("*.md") if "node_modules" not in path.parts),
]
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def headings(page: Path) -> set[str]:
    """What GitHub calls the places of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    seen: Counter[str] = Counter()
    places = set()
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        places.add(f"{name}-{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return places


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(CLONE).as_posix())
def test_a_page_links_to_what_is_there(page):
    for target, place in LINK.findall(CODE.sub("", page.read_text())):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        found = page.parent / target if target else page
        assert found.exists(), f"{target} is not there"
        assert not place or place in headings(found), f"{target}#{place}: there is no such heading"
