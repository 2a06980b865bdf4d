"""What a text would take on the wire, without sending it."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from config.settings import LinkSettings, load
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    USAGE,
    Stopped,
    check_text,
    config_option,
    from_stdin,
    json_option,
    print_json,
)
from gateway import TooManySegments, count, segment

if TYPE_CHECKING:
    from gateway import Coding, Segment

SHOWN_BEYOND = 8
ANY_LINK = LinkSettings(name="any link", hosts=("127.0.0.1",), system_id="any", password="")  # the defaults


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one link would send."""

    link: str
    alphabet: str | None  # gsm7, latin1, ascii or ucs2; None where it cannot be sent
    segments: int
    concatenation: str
    default_alphabet: str
    data_coding: int
    octets: list[int]  # of short_message or message_payload, user data header included; GSM-7 is sent unpacked
    beyond: str  # characters that the link's default alphabet lacks, at most eight
    problem: str | None


@click.command(epilog='Example: tocsin estimate "Your appointment is at 14:30 😀"')
@config_option
@json_option
@click.argument("text")
@click.option("--flash", is_flag=True, help="As Flash SMS.")
def estimate(path: str, text: str, *, flash: bool, as_json: bool) -> int:
    """Say how many segments a text takes on each link, and in which alphabet. Needs no database.

    TEXT "-" reads it from standard input. Without a configuration file it says it for a link with default settings.
    """
    body = from_stdin() if text == "-" else text
    check_text("TEXT", body)
    if not body:
        raise Stopped(USAGE, "TEXT: empty")
    is_named = click.get_current_context().get_parameter_source("path") is not ParameterSource.DEFAULT
    links = load(path).links if is_named or Path(path).exists() else (ANY_LINK,)
    found = [_estimate(body, link, flash=flash) for link in links]
    if as_json:
        print_json([asdict(one) for one in found])
        return DONE if all(one.segments for one in found) else REFUSED
    for one in found:
        if one.problem is not None:
            click.echo(f"{one.link}: {one.problem}")
            continue
        octets = "+".join(map(str, one.octets))
        shape = f"{one.segments} segments by {one.concatenation}" if one.segments > 1 else "1 segment"
        click.echo(f"{one.link}: {one.alphabet}, {shape}, data_coding 0x{one.data_coding:02X}, {octets} octets")
        if one.beyond:
            names = ", ".join(
                f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip() for character in one.beyond
            )
            click.echo(f"  {one.default_alphabet} lacks {names}")
    return DONE if all(one.segments for one in found) else REFUSED


def _estimate(body: str, link: LinkSettings, *, flash: bool) -> Estimate:
    """Cut the text as the link's settings say."""
    alphabet: Coding | None = None
    segments: tuple[Segment, ...] = ()
    problem = None
    try:
        alphabet, _ = count(body, link.default_alphabet, link.concatenation)
        segments = segment(
            body,
            reference=0,
            alphabet=link.default_alphabet,
            concatenation=link.concatenation,
            flash=flash,
            flash_form=link.flash,
        )
    except TooManySegments as error:
        problem = str(error)
    beyond = ""
    if alphabet == "ucs2":
        beyond = "".join(c for c in dict.fromkeys(body) if count(c, link.default_alphabet)[0] == "ucs2")[:SHOWN_BEYOND]
    return Estimate(
        link.name,
        alphabet,
        len(segments),
        link.concatenation,
        link.default_alphabet,
        segments[0].data_coding if segments else 0,
        [len(part.octets) for part in segments],
        beyond,
        problem,
    )
