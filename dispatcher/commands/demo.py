"""What ``make demo`` runs."""

from __future__ import annotations

import socket

import click

from dispatcher import demo
from dispatcher.commands.terminal import USAGE, Stopped


@click.command("demo", epilog="Example: tocsin demo --http 9464, and open http://127.0.0.1:9464/ meanwhile")
@click.option(
    "--http",
    "port",
    type=click.IntRange(0, 65_535),
    default=0,
    metavar="PORT",
    help="Where the daemon's status page is on 127.0.0.1.  [default: any free port]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; all else goes to standard error.")
def demo_command(port: int, *, as_json: bool) -> int:
    """Show it all in half a minute, on a Postgres and two SMSCs that are thrown away.

    The daemon sends 2,000 mixed messages over two links that need a quarter of a minute for them. Emergencies are
    enqueued meanwhile, and patients answer. A terminal shows it live; the summary says from the SMSCs' own logs
    whether every text came once and undamaged, and what the emergencies overtook. Exit code 0: all of it held;
    1: something did not; 3: the database did not start.
    """
    if port:
        _check_free(port)
    return demo.main(port=port, json_wanted=as_json)


def _check_free(port: int) -> None:
    """Refuse a port that the daemon could not have, before anything is started."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Stopped(USAGE, f"--http {port}: {error.strerror}") from None
