"""Open the built pages and follow every link between them: `python docs/check_site.py HTML_FOLDER`.

A link to a page, picture or heading that is not there is an error, and so is a style or script from another machine:
the pages have to work offline.
"""

from __future__ import annotations

import pathlib
import sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The ids of a page, the links to follow, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = {"", "top"}
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.ids |= {values[name] for name in ("id", "name") if name in values}
        if "href" in values:
            self.links.add(values["href"])
            if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
                self.loads.add(values["href"])
        if "src" in values:
            self.links.add(values["src"])
            self.loads.add(values["src"])


def problems(folder: pathlib.Path) -> list[str]:
    """What is wrong, one sentence each; nothing if all links arrive."""
    files = sorted(path for path in folder.rglob("*.html") if "_static" not in path.parts)
    if not files:
        return [f"{folder} holds no pages"]
    pages = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in files}
    found = []
    for path, page in pages.items():
        here = path.relative_to(folder.resolve())
        found += [f"{here}: loads {url} from elsewhere" for url in page.loads if urlsplit(url).netloc]
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue  # outside of the site: not looked at
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                found.append(f"{here}: {link} leads nowhere")
            elif target in pages and unquote(parts.fragment) not in pages[target].ids:
                found.append(f"{here}: {link} leads to no such place on its page")
    return found


def main() -> int:
    found = problems(pathlib.Path(sys.argv[1]))
    print("\n".join(found) if found else "every link between the pages arrives")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
