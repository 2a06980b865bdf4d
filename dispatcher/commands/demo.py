"""What ``make demo`` runs."""

from __future__ import annotations

import click

from dispatcher import demo


@click.command("demo", epilog="Example: tocsin demo")
def demo_command() -> int:
    """Show it all in some seconds: an embedded Postgres, a simulated SMSC, the daemon, an emergency in the middle."""
    return demo.main()
