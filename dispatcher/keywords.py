"""Refuses ``[[keyword]]`` words that could never be taken for one, or that would be taken for two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from config.reader import ConfigError
from dispatcher.recogniser import collides, normal_form

if TYPE_CHECKING:
    from config.settings import Settings


def refuse_collisions(settings: Settings) -> None:
    """Look at every word of every keyword of the file.

    Raises:
        ConfigError: a word means STOP, START or HELP, has no letter and no digit, or is another keyword's, too.

    """
    seen: dict[tuple[str, str], str] = {}  # normal form and sender -> keyword
    for keyword in settings.keywords:
        label = f'[[keyword]] "{keyword.name}"'
        for number, word in enumerate(keyword.words, start=1):
            try:
                wish = collides(word)
            except ValueError as error:
                raise ConfigError(str(settings.path), label, "words", f"item {number} {error}") from None
            if wish is not None:
                raise ConfigError(
                    str(settings.path), label, "words", f"item {number} means {wish.upper()} to who sends it"
                )
            for sender in keyword.senders or ("",):
                other = seen.setdefault((normal_form(word), sender), keyword.name)
                if other != keyword.name:
                    raise ConfigError(str(settings.path), label, "words", f'item {number} is one of "{other}", too')
