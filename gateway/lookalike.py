"""Characters of typesetting that a plain one stands for without another meaning: for texts to stay in GSM-7.

Word processors put curly quotes, dashes and hard spaces into texts; one of them makes a text go as UCS-2, with less
than half the characters a segment. Nothing here is a letter, a digit or a unit: a name, a number and a dose stay as
they are, to the accent. A sign that has no plain twin (as ± or ≤) is not here.
"""

from __future__ import annotations

from typing import Final

REPLACED: Final = {
    "\u2018": "'",  # single quotes
    "\u2019": "'",
    "\u2039": "'",
    "\u203a": "'",
    "\u201c": '"',  # double quotes
    "\u201d": '"',
    "\u201e": '"',
    "\u201f": '"',
    "\u00ab": '"',
    "\u00bb": '"',
    "\u2010": "-",  # hyphens, dashes, the minus sign
    "\u2011": "-",
    "\u2012": "-",
    "\u2013": "-",
    "\u2014": "--",  # of one a number behind it would look negative
    "\u2015": "--",
    "\u2212": "-",
    "\u00a0": " ",  # spaces that are wider, narrower or do not break
    "\u2002": " ",
    "\u2003": " ",
    "\u2004": " ",
    "\u2005": " ",
    "\u2006": " ",
    "\u2007": " ",
    "\u2008": " ",
    "\u2009": " ",
    "\u200a": " ",
    "\u202f": " ",
    "\u205f": " ",
    "\u3000": " ",
    "\u2026": "...",  # ellipsis
    "\t": " ",
}
_TABLE: Final = str.maketrans(REPLACED)


def replaced(text: str) -> str:
    """Give the text with plain characters in place of those; the same text where there are none."""
    return text.translate(_TABLE)
