"""Reads a page of documentation: its fenced blocks, and what the comment before each says about it.

    ```sh      run by bash, one session a page, in order; a command that fails ends the page
    ```sql     run by psql on ``$DATABASE_URL`` of that session
    ```text    directly after one of these two: what it printed, in part: lines may be left out, `...` is anything in a line
    others     source code: the comment before it names the file that the tests run, and the block is that file

A comment on a line of its own, directly before a block, changes that:

    <!-- not run: REASON -->     nothing is done with the block
    <!-- exit: N -->             the block's last command ends with N
    <!-- file: PATH -->          the block equals the file, or the file between its lines `[name` and `name]` (PATH#name)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

RUN = frozenset({"sh", "sql"})
SOURCE = frozenset({"python", "java", "js", "csharp", "sql", "toml", "json"})
OUTPUT = "text"
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$")
VARIES = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d(?::?\d\d)?)?|\d{5,}")  # from run to run
LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(?:#[^)\s]*)?\)")  # to another file
NOTE = re.compile(r"^<!-- (not run|exit|file):(.*)-->$")


class PageError(Exception):
    """A page that cannot be checked, or that is wrong: page, line, and what is the matter."""

    def __init__(self, page: str, line: int, problem: str) -> None:
        super().__init__(f"{page}:{line}: {problem}")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    page: str
    line: int  # of its opening fence, from 1
    language: str
    text: str
    note: tuple[str, str] | None  # the kind and the value of the comment before it
    expected: str | None = None  # the ```text block after it
    needs_output: bool = False

    @property
    def is_run(self) -> bool:
        """Whether bash or psql runs it."""
        return self.language in RUN and (self.note is None or self.note[0] == "exit")

    @property
    def exit_code(self) -> int:
        """What its last command is to end with."""
        return int(self.note[1]) if self.note is not None and self.note[0] == "exit" else 0

    @property
    def file(self) -> str | None:
        """The file that it quotes."""
        return self.note[1] if self.note is not None and self.note[0] == "file" else None


def read(page: str, text: str) -> list[Block]:
    """Give the blocks of a page, or raise PageError where nobody could say what is to be done with one."""
    blocks: list[Block] = []
    lines = text.splitlines()
    before = ""  # the last line that was not empty
    at = 0
    while at < len(lines):
        fence = FENCE.match(lines[at])
        if fence is None:
            before = lines[at].strip() or before
            at += 1
            continue
        opened, mark = at + 1, fence[1]
        at += 1
        inside = []
        while at < len(lines) and not (lines[at].strip().startswith(mark) and not lines[at].strip().strip(mark[0])):
            inside.append(lines[at])
            at += 1
        if at == len(lines):
            raise PageError(page, opened, "the block is never closed")
        at += 1
        block = Block(
            page, opened, fence[2].strip(), "".join(f"{line}\n" for line in inside), _note(page, opened, before)
        )
        if block.language == OUTPUT and block.note is None:
            if before != "```" or not blocks or not blocks[-1].is_run:
                raise PageError(
                    page, opened, "a text block stands after a block that is run, or says why it is not run"
                )
            last = blocks.pop()
            block = Block(page, last.line, last.language, last.text, last.note, block.text)
        else:
            _check(block)
        blocks.append(block)
        before = "```"
    return blocks


def _note(page: str, line: int, before: str) -> tuple[str, str] | None:
    found = NOTE.match(before)
    if found is None:
        return None
    kind, value = found[1], found[2].strip()
    if not value:
        raise PageError(page, line, f"`{kind}:` without a {'reason' if kind == 'not run' else 'value'}")
    if kind == "exit" and not value.isdecimal():
        raise PageError(page, line, f"{value!r} is no exit code")
    return kind, value


def _check(block: Block) -> None:
    kind = block.note[0] if block.note is not None else ""
    if kind == "not run":
        return
    if block.language not in RUN | SOURCE:
        raise PageError(block.page, block.line, f"nothing is known about a block of language {block.language!r}")
    if kind == "exit" and block.language not in RUN:
        raise PageError(block.page, block.line, "only sh and sql have an exit code")
    if block.language not in RUN and kind != "file":
        raise PageError(block.page, block.line, "source code names its file, or says why it is not run")
    if block.language == "sh" and kind == "file":
        raise PageError(block.page, block.line, "sh is run, not quoted")


def check_links(page: str, text: str, root: Path) -> None:
    """Raise PageError where a link leads to a file that is not there."""
    opened = ""  # the mark that opened the block in which the line stands
    for number, line in enumerate(text.splitlines(), start=1):
        if (fence := FENCE.match(line)) is not None and (not opened or fence[1].startswith(opened)):
            opened = "" if opened else fence[1]
        for target in LINK.findall(line) if not opened else ():
            if not (root / page).parent.joinpath(target).exists():
                raise PageError(page, number, f"the link to {target} leads nowhere")


def quoted(block: Block, root: Path) -> str:
    """Give what the block's file says; PATH#name is the part between the lines that end in `[name` and `name]`."""
    assert block.file is not None
    path, _, part = block.file.partition("#")
    try:
        text = (root / path).read_text(encoding="utf-8")
    except OSError:
        raise PageError(block.page, block.line, f"{path} cannot be read") from None
    if not part:
        return text
    found = re.search(rf"^[^\n]*\[{re.escape(part)}\n(.*?)^[^\n]* {re.escape(part)}\]$", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise PageError(block.page, block.line, f"{path} has no part {part}")
    return found[1]


def fits(expected: str, output: str) -> bool:
    """Whether the lines expected come in this order: blanks count as one, instants and long numbers by their shape."""
    lines = iter([_plain(line) for line in output.splitlines()])
    wanted = [_plain(line) for line in expected.splitlines() if line.strip() not in {"", "..."}]
    return all(any(_pattern(want).fullmatch(line) for line in lines) for want in wanted)


def _plain(line: str) -> str:
    return VARIES.sub("0", " ".join(line.split()))


def _pattern(want: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, want.split("..."))))
