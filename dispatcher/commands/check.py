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
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    UNUSABLE,
    Stopped,
    config_option,
    connected,
    json_option,
    print_json,
    shown,
)

if TYPE_CHECKING:
    from config.settings import Settings


@click.command("check", epilog="Example: tocsin check --config /etc/tocsin/1.toml --bind")
@config_option
@json_option
@click.option("--bind", is_flag=True, help="Bind and unbind each host of each link once; nothing is sent.")
def check_command(path: str, *, as_json: bool, bind: bool) -> int:
    """Say whether an instance could do its work: file, state directory, database, schema, server log, links.

    Exit code 1 for a problem, 3 when database, schema or state directory cannot be used.
    """
    settings = load(path)
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
