"""The fenced blocks and the links of the project's pages."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^# ([\w./-]+\.\w+)\b")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_EXIT_CODE = re.compile(r"#.*\bexit code (\d+)")


@dataclass(frozen=True)
class Block:
    """A fenced block; `file` is the name in its first comment, where it has one."""

    page: Path
    line: int
    language: str
    content: str

    @property
    def file(self) -> str | None:
        found = _FILE.match(self.content)
        return found.group(1) if found else None

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def padded(self) -> str:
        """The content on the lines that it has in the page, for tracebacks."""
        return "\n" * self.line + self.content


@dataclass(frozen=True)
class Command:
    """One line of a shell block."""

    place: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)

    @property
    def exit_code(self) -> int:
        """What the line's comment says, 0 without one."""
        found = _EXIT_CODE.search(self.text)
        return int(found.group(1)) if found else 0


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found.group(1), found.group(2))
        for found in _FENCE.finditer(text)
    ]


def commands(block: Block) -> Iterator[Command]:
    for number, line in enumerate(block.content.splitlines(), start=block.line + 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield Command(f"{block.page.relative_to(ROOT)}:{number}", line)


def links(page: Path) -> list[str]:
    """Targets inside the project; fenced blocks have none."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(text) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
