"""One message: enqueue, look at it, cancel it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from datetime import datetime

import click

from config.settings import load
from dispatcher import enqueue as queue
from dispatcher.commands.operate import person
from dispatcher.commands.terminal import (
    DONE,
    REFUSED,
    Stopped,
    check_text,
    config_option,
    connected,
    from_stdin,
    json_option,
    print_json,
    read_duration,
    shown,
)
from gateway import status_name


def _instant(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """Read ISO 8601; without an offset it is this machine's local time."""
    if value is None:
        return None
    try:
        return datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no instant: write 2030-12-31T09:00:00Z") from None


job_argument = click.argument("job_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))


@click.command(
    epilog='Example: tocsin enqueue +447700900123 "Theatre 2: crash call" --category emergency --key alert-4711'
)
@config_option
@json_option
@click.argument("recipient", metavar="TO")
@click.argument("text")
@click.option("--category", metavar="C", help="[default: transactional]")
@click.option("--sender", metavar="S", help="[default: the first that allows the category]")
@click.option("--flash", is_flag=True, help="Show it on the display at once.")
@click.option(
    "--key", metavar="K", help="Idempotency key: the same request again is a duplicate, not a second message."
)
@click.option("--not-before", callback=_instant, metavar="T", help="ISO 8601; without offset it is local time.")
@click.option(
    "--expires-in",
    callback=read_duration,
    metavar="D",
    help="90s, 15m, 2h, 1d, from when it is due. With --key each call is another request.",
)
def enqueue(
    path: str,
    recipient: str,
    text: str,
    category: str | None,
    sender: str | None,
    key: str | None,
    not_before: datetime | None,
    expires_in: float | None,
    *,
    flash: bool,
    as_json: bool,
) -> int:
    """Enqueue one message. TEXT "-" reads it from standard input, which other users cannot list."""
    settings = load(path)
    body = from_stdin() if text == "-" else text
    for name, value in (
        ("TO", recipient),
        ("TEXT", body),
        ("--category", category),
        ("--sender", sender),
        ("--key", key),
    ):
        check_text(name, value)

    async def work() -> queue.Enqueued:
        async with connected(settings) as connection:
            return await queue.enqueue(
                connection,
                recipient,
                body,
                category=category,
                sender=sender,
                idempotency_key=key,
                not_before=not_before,
                expires_in_s=expires_in,
                flash=flash,
            )

    result = asyncio.run(work())
    if as_json:
        print_json({"job_id": result.job_id, "outcome": result.outcome, "reason": result.reason})
    elif result.job_id is None:
        raise Stopped(REFUSED, result.reason or result.outcome)
    else:
        click.echo(" ".join(filter(None, (str(result.job_id), result.outcome, result.reason))))
    return DONE if result.is_taken else REFUSED


wait_option = click.option(
    "--wait",
    "wait_s",
    callback=read_duration,
    default="15s",
    show_default=True,
    metavar="D",
    help="How long for the SMSC.",
)


@click.command(epilog="Example: tocsin job 4711 --json")
@config_option
@json_option
@job_argument
@click.option("--query", is_flag=True, help="Ask the SMSC about parts without a final receipt (query_sm).")
@wait_option
def job(path: str, job_id: int, wait_s: float, *, query: bool, as_json: bool) -> int:
    """Show one job, and how it came to its state: what happened, when, and under which rules.

    What the SMSC says to --query is shown and changes no state: receipts do.
    """
    settings = load(path)
    said: list[queue.Asked] = []

    async def work() -> queue.JobView | None:
        async with connected(settings) as connection:
            if query:
                said.extend(await queue.ask(connection, job_id, "query", why="", who=person(), wait_s=wait_s))
            return await queue.look(connection, job_id)

    view = asyncio.run(work())
    if view is None:
        raise Stopped(REFUSED, f"job {job_id}: unknown")
    if as_json:
        print_json(
            view.state
            | {"evidence": view.parts, "history": view.history}
            | ({"smsc": [asdict(one) for one in said]} if query else {})
        )
        return DONE
    for name, value in view.state.items():
        click.echo(f"{name:<13}{shown(value)}")
    for row in view.history:
        click.echo("  " + _happened(row))
    for one in said:
        click.echo(f"  part {one.part}, {one.link}: {_said(one)}")
    if query and not said:
        click.echo("  no part can be asked about")
    return DONE


@click.command(epilog="Example: tocsin cancel 4711")
@config_option
@json_option
@job_argument
@wait_option
def cancel(path: str, job_id: int, wait_s: float, *, as_json: bool) -> int:
    """Cancel a job that is not yet on its way; else ask the SMSC to (cancel_sm), and say what it said."""
    settings = load(path)

    async def work() -> tuple[str, list[queue.Asked]]:
        async with connected(settings) as connection:
            outcome = await queue.cancel(connection, job_id)
            if outcome != "too_late":
                return outcome, []
            view = await queue.look(connection, job_id)
            asked = await queue.ask(connection, job_id, "cancel", why="", who=person(), wait_s=wait_s)
            return "cancelled_by_smsc" if view is not None and _is_cancelled(view, asked) else outcome, asked

    outcome, said = asyncio.run(work())
    if as_json:
        print_json({"job_id": job_id, "outcome": outcome} | ({"smsc": [asdict(one) for one in said]} if said else {}))
        return DONE if outcome.startswith("cancelled") else REFUSED
    for one in said:
        click.echo(f"part {one.part}, {one.link}: {_said(one)}")
    if not outcome.startswith("cancelled"):
        raise Stopped(REFUSED, f"job {job_id}: {outcome}")
    click.echo(outcome)
    return DONE


def _happened(row: dict[str, object]) -> str:
    """One row of the history, for people: an instant, what happened, and what is known besides."""
    detail = row["detail"]
    assert isinstance(detail, dict)
    part = {"part": row["part"], "link": row["link"], "reason": row["reason"]}
    facts = part | detail | {"policy": row["policy"]}
    known = [f"{name} {shown(value)}" for name, value in facts.items() if value is not None]
    return f"{shown(row['at'])}  {row['what']}" + "".join(f", {fact}" for fact in known)


def _is_cancelled(view: queue.JobView, said: list[queue.Asked]) -> bool:
    """Whether the SMSC cancelled all that it had taken, and that was the whole message."""
    is_whole = {one.part for one in said} == set(range(1, int(str(view.state["parts"])) + 1))
    is_done = all(one.outcome == "answered" and not one.command_status for one in said)
    return is_whole and is_done and len(said) == len(view.parts or [])


def _said(one: queue.Asked) -> str:
    """What an SMSC said, for people."""
    if one.outcome == "answered" and one.command_status:
        return f"refused with {status_name(one.command_status)}"
    if one.outcome == "answered":
        facts = [one.message_state, f"error {one.error_code}" if one.error_code else "", one.final_date]
        return " ".join(filter(None, facts)) or "cancelled"
    words = {
        "unanswered": "no answer in time",
        "session_lost": "the link is away",
        "unsupported": "the SMSC does not offer it",
        "busy": "the window or the rate was full; try again",
    }
    return words.get(one.outcome, "not asked: no daemon has the link")
