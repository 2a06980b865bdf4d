"""What a benchmark keeps says how to repeat it, and names no host and no path."""

from __future__ import annotations

import json

import pytest

from benchmarks import bench_codec, bench_journey, results


class TestCommand:
    def test_the_command_line_is_told_as_it_was_given(self):
        """A word with a space is quoted, so the line can be pasted."""
        assert results.command("x", ["--runs", "a b", "--save"]) == "python -m benchmarks.bench_x --runs 'a b' --save"

    @pytest.mark.parametrize(
        "words",
        [
            ["--database", "postgresql://me:pw@db.example/x"],
            ["--profile", "/home/me/p.svg"],
            ["--spool", "/home/me/spool"],
            ["--smpp-gateway", "/home/me/bin/python"],
        ],
    )
    def test_a_host_a_password_and_a_path_are_left_out(self, words):
        """Whichever way the option is written."""
        for given in (words, ["=".join(words)]):
            told = results.command("x", [*given, "--json"])

            assert words[1] not in told
            assert told.endswith(" --json")
            assert words[0] in told


class TestDocument:
    def test_it_says_what_the_figures_were_made_on(self):
        """The server's version comes from the runs, which were connected to it."""
        made = results.document("x", [], {"runs": [{"postgresql": "18.1"}]}, ["smpplib"])

        assert {"cores", "cpu", "memory_gb"} <= made["machine"].keys()
        assert made["versions"]["postgresql"] == "18.1"
        assert {"python", "commit", "tocsin", "asyncpg", "uvloop", "smpplib"} <= made["versions"].keys()
        assert made["date"].endswith("+00:00")

    def test_no_host_name_and_no_path_is_in_it(self, tmp_path):
        """The files are public."""
        text = json.dumps(results.document("x", [], {}))

        assert results.platform.node() not in text
        assert str(results.ROOT) not in text

    def test_the_same_result_is_the_same_file(self, tmp_path):
        """Sorted, a figure a line, so that git shows what changed; the next run overwrites it."""
        first = results.save({"bench": "x", "b": 1, "a": [1, 2]}, "small", tmp_path)
        text = first.read_text()
        second = results.save({"a": [1, 2], "b": 1, "bench": "x"}, "small", tmp_path)

        assert (first, first.name) == (second, "x-small.json")
        assert second.read_text() == text
        assert text.index('"a"') < text.index('"b"')
        assert text.endswith("}\n")


class TestSave:
    def test_a_bench_keeps_what_it_prints(self, tmp_path, monkeypatch, capsys):
        """The codec's, which needs no database."""
        monkeypatch.setattr(results, "RESULTS", tmp_path)
        code = bench_codec.main(["--turns", "1", "--seconds", "0.001", "--json", "--save"])

        assert code == 0
        assert json.loads((tmp_path / "codec.json").read_text()) == json.loads(capsys.readouterr().out)

    def test_nothing_is_kept_unasked(self, tmp_path, monkeypatch, capsys):
        """Trying things out changes no file."""
        monkeypatch.setattr(results, "RESULTS", tmp_path)
        bench_codec.main(["--turns", "1", "--seconds", "0.001"])

        assert list(tmp_path.iterdir()) == []

    def test_a_variant_is_no_path(self, capsys):
        """It would be written elsewhere."""
        with pytest.raises(SystemExit) as ended:
            bench_journey.main(["--save", "../x"])

        assert ended.value.code == 2
        assert "../x" in capsys.readouterr().err
