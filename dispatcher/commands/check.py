"""``tocsin check``: the file, the database and, when asked, each link."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

from config.recipients import known_zones
from config.settings import load
from dispatcher import check, log
from dispatcher.check import Finding, Grade
from dispatcher.commands.carrier_trial import send_trial
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    UNUSABLE,
    USAGE,
    Stopped,
    check_text,
    config_option,
    connected,
    json_option,
    load_settings,
    print_json,
    read_duration,
    shown,
)
from dispatcher.gates import gates
from dispatcher.keywords import refuse_collisions

if TYPE_CHECKING:
    from config.settings import Settings
    from dispatcher.gates import Gate

WOULD_NOT_GO = frozenset({"refused", "blocked", "expired"})


@click.command(
    "check",
    epilog="Examples: tocsin check --config /etc/tocsin/1.toml --bind;"
    " tocsin check --bind --send-to +447700900123 --link carrier-a;"
    " tocsin check --recipient +447700900123 --category marketing",
)
@config_option
@json_option
@click.option("--bind", is_flag=True, help="Bind and unbind each host of each link once; nothing is sent.")
@click.option(
    "--send-to",
    metavar="NUMBER",
    help="With --bind, in place of all else: send real texts over one link to this handset, which the carrier charges"
    " for, and print the settings of the link that answers and receipts show.",
)
@click.option("--link", metavar="NAME", help="The link to send over; needed where the file has several.")
@click.option("--sender", metavar="ADDRESS", help="Sender of the texts; the first [[sender]] that can be otherwise.")
@click.option("--wait", "wait_s", callback=read_duration, metavar="D", help="How long for receipts; 60s otherwise.")
@click.option("--yes", is_flag=True, help="Send without asking.")
@click.option(
    "--recipient",
    metavar="NUMBER",
    help="In place of all else: say what would become of a message to this number now, and why. Nothing is sent.",
)
@click.option("--category", metavar="C", help="Of that message; transactional otherwise.")
@click.option("--tz", "zone", metavar="ZONE", help="Where the recipient is, in place of what the number tells.")
def check_command(
    path: str,
    *,
    as_json: bool,
    bind: bool,
    send_to: str | None,
    link: str | None,
    sender: str | None,
    wait_s: float | None,
    yes: bool,
    recipient: str | None,
    category: str | None,
    zone: str | None,
) -> int:
    """Say whether an instance could do its work: file, state directory, database, schema, server log, links.

    Exit code 1 for a problem, 3 when database, schema or state directory cannot be used. With --send-to 0 when at
    least one text was accepted and all were tried, else 1. With --recipient 0 for a message that would go, now
    or later, else 1.
    """
    if recipient is not None:
        for option, given in (
            ("--bind", bind),
            ("--send-to", send_to),
            ("--link", link),
            ("--wait", wait_s),
            ("--yes", yes),
        ):
            if given:
                raise click.UsageError(f"{option} and --recipient exclude each other")
        return _check_recipient(load(path), recipient, category or "transactional", sender, zone, as_json=as_json)
    for option, given in (("--category", category), ("--tz", zone)):
        if given is not None:
            raise click.UsageError(f"{option} needs --recipient")
    if send_to is not None:
        if not bind:
            raise click.UsageError("--send-to needs --bind")
        return send_trial(load_settings(path), send_to, link, sender, wait_s, yes=yes, as_json=as_json)
    for option, given in (("--link", link), ("--wait", wait_s), ("--yes", yes or None)):
        if given is not None:
            raise click.UsageError(f"{option} needs --send-to")
    if sender is not None:
        raise click.UsageError("--sender needs --send-to or --recipient")
    settings = load(path)
    refuse_collisions(settings)
    findings = [*check.check_file(settings)]
    state, is_running = check.check_state_directory(settings)
    findings.append(state)
    findings += asyncio.run(_check_database(settings, is_running=is_running))
    if bind:
        log.silence()
        findings += asyncio.run(_check_links(settings, is_running=is_running))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.grade:<9} {shown(finding.subject)}: {shown(finding.text)}")
    grades = {finding.grade for finding in findings}
    if Grade.UNUSABLE in grades:
        return UNUSABLE
    return REFUSED if Grade.PROBLEM in grades else DONE


def _check_recipient(
    settings: Settings, recipient: str, category: str, sender: str | None, zone: str | None, *, as_json: bool
) -> int:
    for name, value in (("--recipient", recipient), ("--category", category), ("--sender", sender)):
        check_text(name, value)
    if zone is not None and zone not in known_zones():
        raise Stopped(USAGE, "--tz: must be a time zone of the IANA database, such as America/New_York")

    async def work() -> list[Gate]:
        async with connected(settings) as connection:
            return await gates(connection, settings, recipient, category, sender, zone, time.time())

    found = asyncio.run(work())
    if as_json:
        print_json([asdict(gate) for gate in found])
    else:
        for gate in found:
            facts = [f"{name} {_fact(value)}" for name, value in gate.detail.items() if value is not None]
            click.echo(f"{gate.step:<12}{gate.verdict:<9}{', '.join(filter(None, (gate.reason, *facts)))}".rstrip())
    return REFUSED if {gate.verdict for gate in found} & WOULD_NOT_GO else DONE


def _fact(value: object) -> str:
    return " ".join(map(shown, value)) if isinstance(value, list | tuple) else shown(value)


async def _check_database(settings: Settings, *, is_running: bool) -> list[Finding]:
    if is_running and settings.database.embedded_directory is not None:
        return [Finding("database", Grade.NOTE, "embedded in the daemon that runs now; not looked at")]
    findings = []
    try:
        async with connected(settings) as connection:
            async for finding in check.check_database(connection, settings):
                findings.append(finding)  # noqa: PERF401  # what was found before a failure is kept
    except Stopped as error:
        findings.append(Finding("database", Grade.UNUSABLE, error.problem))
    return findings


async def _check_links(settings: Settings, *, is_running: bool) -> list[Finding]:
    """Bind to one host after the other, with a progress bar on a terminal."""
    if is_running:
        return [Finding("links", Grade.PROBLEM, "not tried: the daemon that runs now holds these binds")]
    hosts = [(link, host) for link in settings.links for host in link.hosts]
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("bind", total=len(hosts))
        findings = []
        for link, host in hosts:
            findings.append(await check.check_link(link, host))
            progress.advance(task)
    return findings
