"""What a text would take on the wire, without sending it."""

from __future__ import annotations

import unicodedata
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from config.settings import SHIPPED_CATEGORIES, LinkSettings, load
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
    shown,
)
from gateway import LANGUAGES, TooManySegments, count, segment

if TYPE_CHECKING:
    from gateway import Counted, Segment

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
    national_tables: list[str]  # those that are used
    replaced: bool  # typographic characters by plain ones
    problem: str | None


@click.command(epilog='Example: tocsin estimate "Your appointment is at 14:30 😀"')
@config_option
@json_option
@click.argument("text")
@click.option("--flash", is_flag=True, help="As Flash SMS.")
@click.option("--category", metavar="C", help="One that may forbid to replace typographic characters.")
def estimate(path: str, text: str, category: str | None, *, flash: bool, as_json: bool) -> int:
    """Say how many segments a text takes on each link, and in which alphabet. Needs no database.

    TEXT "-" reads it from standard input. Without a configuration file it says it for a link with default settings.
    """
    body = from_stdin() if text == "-" else text
    check_text("TEXT", body)
    if not body:
        raise Stopped(USAGE, "TEXT: empty")
    is_named = click.get_current_context().get_parameter_source("path") is not ParameterSource.DEFAULT
    settings = load(path) if is_named or Path(path).exists() else None
    substitute = True
    if category is not None:
        known = {one.name: one.substitute for one in (SHIPPED_CATEGORIES if settings is None else settings.categories)}
        if category not in known:
            raise Stopped(USAGE, f"--category: there is no {shown(category)}; known are {', '.join(sorted(known))}")
        substitute = known[category]
    links = (ANY_LINK,) if settings is None else settings.links
    found = [_estimate(body, link, flash=flash, substitute=substitute) for link in links]
    if as_json:
        print_json([asdict(one) for one in found])
        return DONE if all(one.segments for one in found) else REFUSED
    for one in found:
        if one.problem is not None:
            click.echo(f"{one.link}: {one.problem}")
            continue
        octets = "+".join(map(str, one.octets))
        shape = f"{one.segments} segments by {one.concatenation}" if one.segments > 1 else "1 segment"
        alphabet = " with ".join(filter(None, (one.alphabet, ", ".join(one.national_tables))))
        click.echo(f"{one.link}: {alphabet}, {shape}, data_coding 0x{one.data_coding:02X}, {octets} octets")
        if one.replaced:
            click.echo("  typographic characters are replaced by plain ones")
        if one.beyond:
            names = ", ".join(
                f"U+{ord(character):04X} {unicodedata.name(character, '')}".strip() for character in one.beyond
            )
            click.echo(f"  {one.default_alphabet} lacks {names}")
    return DONE if all(one.segments for one in found) else REFUSED


def _estimate(body: str, link: LinkSettings, *, flash: bool, substitute: bool) -> Estimate:
    """Cut the text as the link's settings say."""
    found: Counted | None = None
    segments: tuple[Segment, ...] = ()
    problem = None
    substitute = substitute and link.substitute
    try:
        found = count(body, link.default_alphabet, link.concatenation, link.national_tables, substitute=substitute)
        segments = segment(
            body,
            reference=0,
            alphabet=link.default_alphabet,
            concatenation=link.concatenation,
            flash=flash,
            flash_form=link.flash,
            national=link.national_tables,
            substitute=substitute,
        )
    except TooManySegments as error:
        problem = str(error)
    beyond = ""
    if found is not None and (found.coding == "ucs2" or found.single or found.locking):
        lacking = [c for c in dict.fromkeys(body) if count(c, link.default_alphabet).coding == "ucs2"]
        beyond = "".join(lacking)[:SHOWN_BEYOND]
    return Estimate(
        link.name,
        found.coding if found is not None else None,
        len(segments),
        link.concatenation,
        link.default_alphabet,
        segments[0].data_coding if segments else 0,
        [len(part.octets) for part in segments],
        beyond,
        [] if found is None else _tables(found),
        found is not None and found.replaced,
        problem,
    )


def _tables(found: Counted) -> list[str]:
    """Name the national tables as the configuration does."""
    names = {number: name for name, number in LANGUAGES.items()}
    both = ((found.single, "single"), (found.locking, "locking"))
    return [f"{names[language]}-{kind}" for language, kind in both if language]
