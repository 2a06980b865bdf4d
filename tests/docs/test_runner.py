"""The runner of the documentation: what does not hold fails, and nothing is left out without a reason."""

from __future__ import annotations

import subprocess

import psutil
import pytest

from tests.docs import run_docs
from tests.docs.page import PageError, fits, read


@pytest.fixture
def run(tmp_path):
    """Checks a page of its own in a repository of its own, without an installation."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "known.py").write_text("# [part\nprint(1)\n# part]\n")
    subprocess.run(["git", "add", "known.py"], cwd=tmp_path, check=True)

    def checked(text: str) -> None:
        (tmp_path / "page.md").write_text(text)
        run_docs.check("page.md", root=tmp_path, fresh=True)

    return checked


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```\nls\n```\n", "language ''"),
        ("```perl\nls\n```\n", "language 'perl'"),
        ("```sh\nls\n", "never closed"),
        ("<!-- not run: -->\n```sh\nls\n```\n", "without a reason"),
        ("<!-- exit: one -->\n```sh\nls\n```\n", "no exit code"),
        ("```python\nprint()\n```\n", "names its file"),
        ("<!-- file: known.py -->\n```sh\nls\n```\n", "not quoted"),
        (
            "<!-- exit: 1 -->\n<!-- file: known.py -->\n```python\nprint(2)\n```\n",
            "page.md:3: is not what known.py says",
        ),
        ("<!-- file: gone.py -->\n```python\nprint(1)\n```\n", "gone.py cannot be read"),
        ("<!-- file: known.py#other -->\n```python\nprint(1)\n```\n", "has no part other"),
        ("```text\nls\n```\n", "stands after a block"),
        ("```sh\ntrue\n```\nand then\n```text\nls\n```\n", "stands after a block"),
    ],
)
def test_a_block_of_which_nobody_knows_what_to_do_fails(run, text, problem):
    """Else a command that nobody ever ran would look like one that CI runs."""
    with pytest.raises(PageError, match=problem):
        run(text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("```sh\ntrue\n```\n```sh\nfalse\n```\n", "page.md:4: exit code 1"),
        ("```sh\nfalse\ntrue\n```\n", "page.md:1: exit code 1"),
        ("```sh\nfalse | true\n```\n", "exit code 1"),
        ("```sh\ncat untracked\n```\n", "No such file"),
        ("<!-- exit: 1 -->\n```sh\ntrue\n```\n", "exit code 1, not 1|page.md:2: "),
        ("<!-- exit: 1 -->\n```sh\n(exit 3)\n```\n", "exit code 3, not 1"),
        ("```sh\necho one\necho two\n```\n\n```text\ntwo\none\n```\n", "printed something else"),
    ],
)
def test_what_does_not_hold_fails(run, tmp_path, text, problem):
    """The first command that fails, with its page, its line and what it printed."""
    (tmp_path / "untracked").write_text("here, and not in a clone")
    with pytest.raises(PageError, match=problem):
        run(text)


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nx=1\ncd ..\n```\n\n```sh\n[ $x = 1 ] && [ -d tocsin ]\n```\n",
        "```sh\ncat known.py\n```\n\n```text\n...[part\nprint(1)\n```\n",
        "<!-- exit: 3 -->\n```sh\n(exit 3)\n```\n```sh\ntrue\n```\n",
        "<!-- not run: it is dear -->\n```sh\nfalse\n```\n",
        "<!-- not run: Perl -->\n```perl\nfalse\n```\n",
        "<!-- file: known.py#part -->\n```python\nprint(1)\n```\n",
        "````sh\ncat <<'x'\n```\nx\n````\n",
    ],
)
def test_what_holds_passes(run, text):
    """One shell a page, what is quoted is equal, and what is left out says why."""
    run(text)


def test_a_page_that_does_not_end_is_ended(run, tmp_path, monkeypatch):
    """With all that it started, also what does not want to end."""
    monkeypatch.setattr(run_docs, "FRESH_S", 1.0)
    monkeypatch.setattr(run_docs, "STOP_S", 1.0)

    with pytest.raises(PageError, match=r"page\.md:1: not done after 1 s"):
        run(f"```sh\n(trap '' TERM; exec tail -f /dev/null) &\necho $! > {tmp_path}/pid\ntail -f /dev/null\n```\n")

    assert not runs(int((tmp_path / "pid").read_text()))


def test_what_a_page_leaves_running_is_ended(run, tmp_path):
    """A daemon in the background ends with the page."""
    run(f"```sh\nsleep 1000 &\necho $! > {tmp_path}/pid\n```\n")

    assert not runs(int((tmp_path / "pid").read_text()))


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_sql_runs_on_a_database_of_the_pages_own(run):
    """Where the page makes none: migrated, and with the tutorial's sender and route."""
    call = "select outcome from tocsin.enqueue('+447700900123', 'Hello', category => 'emergency');"
    run(f"```sql\n{call}\n```\n\n```text\nqueued\n```\n")
    with pytest.raises(PageError, match=r"page\.md:5: exit code 3:\n.*unknown"):
        run(f"```sql\n{call}\n```\n\n```sql\n{call.replace('emergency', 'urgent')}\nselect 1;\n```\n")


def test_a_link_that_leads_nowhere_fails(run):
    """Files are renamed."""
    run("[known](known.py#part), [web](https://example.net), [here](#there)\n\n```sh\necho 'f[0](gone)'\n```\n")
    with pytest.raises(PageError, match=r"page.md:2: the link to gone\.md"):
        run("\n[gone](gone.md)\n")


def test_quoted_files_are_put_into_their_page(run, tmp_path):
    """The writer makes what the checker wants, and changes nothing else."""
    page = (
        "# Title\n\n<!-- file: known.py -->\n```python\n```\n\n<!-- file: known.py#part -->\n```python\nold\n```\nend\n"
    )
    (tmp_path / "page.md").write_text(page)

    run_docs.write("page.md", root=tmp_path)

    written = (tmp_path / "page.md").read_text()
    assert written.startswith("# Title\n")
    assert written.endswith("```python\nprint(1)\n```\nend\n")
    run(written)


@pytest.mark.parametrize(
    ("expected", "output", "holds"),
    [
        ("1 queued", "1   queued", True),
        ("1 queued", "2 queued", False),
        ("at 2026-01-01T00:00:00Z", "at 2027-10-11 10:01:02.345+00", True),
        ("seq 805306368", "seq 807403520", True),
        ("a\nc", "a\nb\nc", True),
        ("a\na", "a", False),
        ("{...end...}", '{"a": 1, end}', True),
        ("end", "the end", False),
    ],
)
def test_output_is_compared_where_it_is_stable(expected, output, holds):
    """Instants and numbers that differ from run to run count by their shape; all else as it stands."""
    assert fits(expected, output) is holds


def test_the_blocks_of_a_page_are_found():
    """A page of which no block were found would hold for nothing."""
    (block,) = read("page.md", "text\n\n```sh\nls\n```\n\n```text\nx\n```\n")
    assert (block.line, block.language, block.text, block.expected, block.is_run) == (3, "sh", "ls\n", "x\n", True)
