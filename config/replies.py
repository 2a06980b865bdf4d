"""What is answered by itself: ``[[auto_reply]]`` by kind, language and sender; ``[[keyword]]`` to words of the file.

The shipped texts name no organisation, since Tocsin knows none; a file changes one by giving the same kind, sender and
language. The answer to HELP should name the sender, a telephone number, and how to stop (CTIA's guidelines ask for it).
Texts in other languages than English want a native speaker's eye. None is shipped of ``received`` and ``closed``: they
promise an answer, and only the operator knows when it comes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from config.reader import Matching, Table, read

# What no text may have, as tocsin.control_character: C0 but TAB, LF and CR, DEL, C1; embeddings, isolates of bidi
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
MOST = 612  # four segments of GSM-7


@dataclass(frozen=True, slots=True)
class Sendable:
    """A text for a handset. Nobody sees a control character in a file, so its code point is named."""

    form: str = f"at most {MOST} characters, none of them a control character"

    def problem(self, value: Any) -> str | None:
        """Say which rule the text breaks, or nothing."""
        if control := CONTROL.search(value):
            return f"has the control character U+{ord(control[0]):04X}"
        return None if len(value) <= MOST else f"must be {self.form}"


ReplyText = Annotated[str, Sendable()]


@dataclass(frozen=True, slots=True)
class KeywordSettings:
    """``[[keyword]]``: words that handsets send of their own accord, and what follows."""

    name: Annotated[str, Matching(r"[a-z][a-z0-9_]{0,30}", "1 to 31 lower-case letters, digits, underscores")]
    words: tuple[Annotated[str, Matching(r"[^\x00-\x1f\x7f]{1,40}", "1 to 40 characters")], ...]
    senders: tuple[str, ...] = ()  # numbers of ours that know it; (): all
    reply: ReplyText = ""  # "": none is sent


@dataclass(frozen=True, slots=True)
class AutoReplySettings:
    """``[[auto_reply]]``: one text."""

    kind: Literal["stop", "staff_stop", "start", "help", "emergency", "ambiguous", "received", "closed"]
    text: ReplyText  # "": none is sent
    language: Annotated[str, Matching(r"([a-z]{2})?", "a language of two letters (ISO 639-1), or empty for any")] = ""
    sender: str = ""  # one of ours; "": every one that has no text of its own


SHIPPED_REPLIES: tuple[AutoReplySettings, ...] = (
    AutoReplySettings("stop", "You will get no more messages from this number. Reply START to get them again.", "en"),
    AutoReplySettings(
        "stop", "No recibirá más mensajes de este número. Responda START para volver a recibirlos.", "es"
    ),
    AutoReplySettings(
        "stop", "Vous ne recevrez plus de messages de ce numéro. Répondez START pour les recevoir à nouveau.", "fr"
    ),
    AutoReplySettings(
        "stop", "Sie erhalten keine Nachrichten mehr von dieser Nummer. Mit START erhalten Sie sie wieder.", "de"
    ),
    AutoReplySettings(
        "stop", "Não receberá mais mensagens deste número. Responda START para voltar a recebê-las.", "pt"
    ),
    AutoReplySettings("stop", "Non riceverà più messaggi da questo numero. Con START li riceverà di nuovo.", "it"),
    AutoReplySettings("stop", "لن تصلك رسائل أخرى من هذا الرقم. أرسل START لاستلامها مجددا.", "ar"),
    AutoReplySettings(
        "staff_stop",
        "Your STOP was noted, but messages from this number go on: alerts for staff, or codes you ask for."
        " To end them, ask who runs them.",
        "en",
    ),
    AutoReplySettings("start", "You will get messages from this number again. Reply STOP to end them.", "en"),
    AutoReplySettings(
        "help",
        "Reply STOP to get no more messages from this number. In an emergency call your local emergency number.",
        "en",
    ),
    AutoReplySettings(
        "emergency",
        "This number is not watched at all times. If you may be in danger, call your local emergency number now.",
        "en",
    ),
    AutoReplySettings("ambiguous", "Which message do you answer? Please reply with its code: {answers}", "en"),
)


def replies(tables: Iterable[Table], senders: set[str], *, closes: bool) -> tuple[AutoReplySettings, ...]:
    """Read the tables over the shipped texts; ``closes``: the file has ``[hours]``.

    Raises:
        ConfigError: a sender is none of the file's, a text stands there twice, or one could never be sent.

    """
    result = {(reply.kind, reply.sender, reply.language): reply for reply in SHIPPED_REPLIES}
    given = set()
    for table in tables:
        reply = AutoReplySettings(**read(table, AutoReplySettings))
        if reply.sender and reply.sender not in senders:
            raise table.error("sender", "names no [[sender]] of this file")
        if reply.kind == "closed" and not closes:
            raise table.error("kind", "closed needs [hours]: without them it is always open")
        key = (reply.kind, reply.sender, reply.language)
        if key in given:
            raise table.error("kind", "stands there twice for this sender and language")
        given.add(key)
        result[key] = reply
    return tuple(result.values())


def keywords(tables: Iterable[Table], senders: set[str]) -> tuple[KeywordSettings, ...]:
    """Read the tables. Whether a word means STOP, START or HELP is ``dispatcher/keywords.py``'s to say.

    Raises:
        ConfigError: a sender is none of the file's, or a name stands there twice.

    """
    result: dict[str, KeywordSettings] = {}
    for table in tables:
        keyword = KeywordSettings(**read(table, KeywordSettings))
        if not senders.issuperset(keyword.senders):
            raise table.error("senders", "names no [[sender]] of this file")
        if keyword.name in result:
            raise table.error("name", "stands there twice")
        result[keyword.name] = keyword
    return tuple(result.values())
