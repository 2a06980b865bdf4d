"""``tocsin check``: the file, the database and, when asked, each link."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import Progress

from config.settings import load
from dispatcher import check, log
from dispatcher.check import Finding, Grade
from dispatcher.commands.carrier_trial import send_trial
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    UNUSABLE,
    Stopped,
    config_option,
    connected,
    json_option,
    load_settings,
    print_json,
    read_duration,
    shown,
)
from dispatcher.keywords import refuse_collisions

if TYPE_CHECKING:
    from config.settings import Settings


@click.command(
    "check",
    epilog="Examples: tocsin check --config /etc/tocsin/1.toml --bind;"
    " tocsin check --bind --send-to +447700900123 --link carrier-a",
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
@click.option("--sender", metavar="ADDRESS", help="Sender of these texts; the first [[sender]] of the link otherwise.")
@click.option("--wait", "wait_s", callback=read_duration, metavar="D", help="How long for receipts; 60s otherwise.")
@click.option("--yes", is_flag=True, help="Send without asking.")
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
) -> int:
    """Say whether an instance could do its work: file, state directory, database, schema, server log, links.

    Exit code 1 for a problem, 3 when database, schema or state directory cannot be used. With --send-to 0 when at
    least one text was accepted and all were tried, else 1.
    """
    if send_to is not None:
        if not bind:
            raise click.UsageError("--send-to needs --bind")
        return send_trial(load_settings(path), send_to, link, sender, wait_s, yes=yes, as_json=as_json)
    for option, given in (("--link", link), ("--sender", sender), ("--wait", wait_s), ("--yes", yes or None)):
        if given is not None:
            raise click.UsageError(f"{option} needs --send-to")
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
