"""``tocsin check --bind --send-to``: real texts to one handset, and what they show of a carrier.

The number is shown by its last two digits alone, to a person and to a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Final

import click
from rich.console import Console
from rich.progress import Progress

from dispatcher import log
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    UNUSABLE,
    USAGE,
    Stopped,
    confirm,
    print_json,
    shown,
)
from dispatcher.errors import StateDirectoryHeld
from dispatcher.state_directory import StateDirectory
from gateway import Learnt, Observed, Trial, carrier_trial, learn, trials

if TYPE_CHECKING:
    from collections.abc import Iterator

    from config.settings import LinkSettings, SenderSettings, Settings

E164: Final = re.compile(r"\+[1-9]\d{6,14}", re.ASCII)
WAIT_S: Final = 60.0
COLUMNS: Final = 110  # of a comment


def send_trial(
    settings: Settings,
    number: str,
    link_name: str | None,
    sender: str | None,
    wait_s: float | None,
    *,
    yes: bool,
    as_json: bool,
) -> int:
    """Say what will be sent, ask, send it, and print what it shows; gives the exit code.

    Raises Stopped where nothing is sent, or nothing could be.
    """
    if E164.fullmatch(number) is None:
        raise Stopped(USAGE, "--send-to: must be an E.164 number: + and 7 to 15 digits")
    link = _link(settings, link_name)
    source = _sender(settings, link, sender)
    wait_s = WAIT_S if wait_s is None else wait_s
    planned = trials(link)
    messages = sum(trial.messages for trial in planned)
    place = f"link {link.name} from {log.mask(source)} to {log.mask(number)}"
    consequence = f"{len(planned)} texts go over {place}, and the carrier charges for {messages} messages"
    with _held_state_directory(settings):
        confirm(consequence, yes=yes, otherwise="nothing was sent")
        if yes:
            click.echo(consequence, err=as_json)
        log.silence()
        seen = asyncio.run(_try(link, source, number, wait_s, messages))
    if not seen.is_bound and not as_json:
        raise Stopped(REFUSED, f'[[link]] "{link.name}": {seen.host}:{link.port}: {seen.problem}')
    learnt = learn(seen, link)
    if as_json:
        print_json(_document(link, log.mask(number), seen, learnt))
    else:
        click.echo(_printable("\n".join(_lines(link, place, seen, learnt))))
    return DONE if seen.accepted and not seen.problem else REFUSED


def _link(settings: Settings, name: str | None) -> LinkSettings:
    names = ", ".join(link.name for link in settings.links)
    if not settings.links:
        raise Stopped(USAGE, f"{settings.path}: no [[link]]: nothing can be sent")
    if name is None:
        if len(settings.links) > 1:
            raise Stopped(USAGE, f"--link: must name one of {names}")
        return settings.links[0]
    found = next((link for link in settings.links if link.name == name), None)
    if found is None:
        raise Stopped(USAGE, f"--link: must be one of {names}")
    return found


def _sender(settings: Settings, link: LinkSettings, address: str | None) -> str:
    """Give the sender as [[sender]] writes it: one that is provisioned on the link."""
    there: list[SenderSettings] = [one for one in settings.senders if not one.links or link.name in one.links]
    if not there:
        raise Stopped(USAGE, f'{settings.path}: no [[sender]] for link "{link.name}"')
    if address is None:
        return there[0].address
    if address not in {one.address for one in there}:
        raise Stopped(USAGE, f'--sender: must be one of [[sender]] for link "{link.name}"')
    return address


@contextlib.contextmanager
def _held_state_directory(settings: Settings) -> Iterator[None]:
    """Keep a daemon from binding meanwhile, and leave a running one its binds."""
    path = settings.daemon.state_dir
    try:
        state = StateDirectory.open(path, settings.daemon.instance)
    except StateDirectoryHeld:
        raise Stopped(REFUSED, "nothing was sent: the daemon that runs now holds these binds") from None
    except OSError as error:
        raise Stopped(UNUSABLE, f"{settings.path}: [daemon] state_dir: {path}: {error.strerror}") from None
    try:
        yield
    finally:
        state.close()


async def _try(link: LinkSettings, sender: str, number: str, wait_s: float, messages: int) -> Observed:
    """Send, with a progress bar on a terminal."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("send, and wait for receipts", total=messages)
        return await carrier_trial(
            link,
            sender=sender,
            recipient=number.removeprefix("+"),
            wait_s=wait_s,
            progress=lambda count: progress.advance(task, count),
        )


# What is printed


def _printable(text: str) -> str:
    """Replace what a terminal without UTF-8 cannot show: the texts are sent, and the rest must be told."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _lines(link: LinkSettings, place: str, seen: Observed, learnt: Learnt) -> Iterator[str]:
    yield f"{place}, bound to {seen.host}:{link.port}:"
    yield ""
    for trial in seen.trials:
        outcome, why = seen.outcome(trial.key)
        receipts = ", ".join(sorted({str(one.state) for one in seen.receipts if one.key == trial.key}))
        yield f"{trial.number:>2}  {outcome:<8}  {why:<20}  {receipts or '-':<11}  {trial.about}"
    yield ""
    yield from map(shown, _table(link.name, learnt))
    yield ""
    yield from _left_alone(seen)
    if seen.problem:
        yield f"It did not come to its end: {seen.problem}."
    yield "Compare on the handset, and see whether anything is missing:"
    for trial in _on_handset(seen):
        yield f"{trial.number:>2}. {_expected(trial)}: {trial.text}"


def _left_alone(seen: Observed) -> Iterator[str]:
    if seen.kept:
        yield f"{seen.kept} other receipts and messages came; they were left to the SMSC (ESME_RX_T_APPN)."
    if seen.unreadable:
        yield f"{seen.unreadable} deliveries could not be read, and were refused."


def _table(name: str, learnt: Learnt) -> Iterator[str]:
    """Give [[link]] with what was learnt, what it was learnt from, and what was not."""
    yield "[[link]]"
    yield f"name = {json.dumps(name)}"
    for setting in learnt.settings:
        yield ""
        yield from _comment(setting.evidence)
        value = list(setting.value) if isinstance(setting.value, tuple) else setting.value
        yield f"{setting.key} = {json.dumps(value)}"
    if learnt.unknown:
        yield ""
        for key, why in learnt.unknown:
            yield from _comment(f"{key} was not learnt: {why}")
    if learnt.notes:
        yield ""
        for note in learnt.notes:
            yield from _comment(note)


def _comment(text: str) -> Iterator[str]:
    return iter(textwrap.wrap(text, COLUMNS, initial_indent="# ", subsequent_indent="#   "))


def _on_handset(seen: Observed) -> list[Trial]:
    """Texts that may have reached the handset: also those of which no answer came."""
    refused = {trial.key for trial in seen.trials if seen.outcome(trial.key)[0] == "refused"}
    sent = {answer.key for answer in seen.answers}
    return [trial for trial in seen.trials if trial.key in sent - refused]


def _expected(trial: Trial) -> str:
    return "text" if trial.flash == "plain" else "flash: shown at once, without being opened"


def _document(link: LinkSettings, number: str, seen: Observed, learnt: Learnt) -> dict[str, Any]:
    texts = []
    for trial in seen.trials:
        outcome, why = seen.outcome(trial.key)
        answers = [one for one in seen.answers if one.key == trial.key]
        texts.append(
            {
                "number": trial.number,
                "form": trial.key,
                "about": trial.about,
                "text": trial.text,
                "flash": trial.flash != "plain",
                "outcome": outcome,
                "status": why,
                "answer_s": [round(one.took_s, 4) for one in answers if one.command_status is not None],
                "receipts": [
                    {"state": str(one.state), "after_s": round(one.after_s, 3)}
                    for one in seen.receipts
                    if one.key == trial.key
                ],
            }
        )
    return {
        "link": link.name,
        "host": seen.host,
        "port": link.port,
        "to": number,
        "bound": seen.is_bound,
        "problem": seen.problem or None,
        "accepted": seen.accepted,
        "texts": texts,
        "settings": {one.key: {"value": one.value, "evidence": one.evidence} for one in learnt.settings},
        "not_learnt": dict(learnt.unknown),
        "notes": learnt.notes,
        "left_to_smsc": seen.kept,
        "unreadable": seen.unreadable,
        "table": "".join(f"{line}\n" for line in _table(link.name, learnt)),
    }
