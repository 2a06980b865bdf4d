"""dispatcher/keywords.py: words of an operator's own that would never be taken for one."""

from __future__ import annotations

import json

import pytest

from config.reader import ConfigError
from config.settings import load
from dispatcher.keywords import refuse_collisions
from tests.dispatcher.test_apply import FILE


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([["route", "cancel"]], "words: item 2 means STOP"),
        ([["Help me!"]], "words: item 1 means HELP"),
        ([["ЅТОР"]], "words: item 1 means STOP"),
        ([["\u2705"]], "words: item 1 has neither letters nor digits"),
        ([["where"], ["WHERE?"]], 'words: item 1 is one of "k0", too'),
        ([["where", "Where"], ["what"]], None),
    ],
)
def test_case_5_a_keyword_that_means_stop_is_refused_with_file_table_and_key(tmp_path, words, problem):
    path = tmp_path / "tocsin.toml"
    tables = [f'[[keyword]]\nname = "k{n}"\nwords = {json.dumps(its)}\n' for n, its in enumerate(words)]
    path.write_text(FILE + "\n".join(tables), encoding="utf-8")
    settings = load(path, {})
    if problem is None:
        refuse_collisions(settings)
    else:
        with pytest.raises(ConfigError, match=problem) as caught:
            refuse_collisions(settings)
        assert str(caught.value).startswith(f'{path}: [[keyword]] "k{len(words) - 1}": words: ')
