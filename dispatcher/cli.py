"""The command ``tocsin``: its subcommands, and the exit code of whatever they end with.

Exit codes: 0 done (also duplicate, deferred); 1 refused, a finding, unknown, too late; 2 usage or
configuration; 3 database, schema or state directory. What a user can cause is one line on stderr, never a
traceback, and never the content of a row.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from config.reader import ConfigError
from dispatcher import log
from dispatcher.commands import check, demo, estimate, message, operate, service, smsc, status
from dispatcher.commands.terminal import DONE, EXIT_CODES, INTERRUPTED, REFUSED, USAGE, Stopped
from dispatcher.version import COMPILED, VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.group(
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ".",
)
@click.version_option(VERSION, "--version", message="%(version)s (compiled)" if COMPILED else "%(version)s")
def tocsin() -> None:
    """SMPP gateway and dispatch daemon: emergencies first, nothing lost, nothing silently doubled."""


for command in (
    service.run,
    service.migrate_command,
    service.apply,
    check.check_command,
    status.status_command,
    message.enqueue,
    estimate.estimate,
    message.job,
    message.cancel,
    operate.pause,
    operate.resume,
    operate.requeue,
    smsc.smsc_command,
    demo.demo_command,
):
    tocsin.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code."""
    sys.exit(invoke(arguments))


def invoke(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        return int(tocsin.main(args=arguments, prog_name="tocsin", standalone_mode=False) or DONE)
    except click.ClickException as error:
        return _say(USAGE, error.format_message())
    except click.Abort:
        return INTERRUPTED
    except ConfigError as error:
        return _say(USAGE, str(error))
    except Stopped as error:
        return _say(error.code, error.problem)
    except Exception as error:
        return _say(REFUSED, f"a fault of ours: {' '.join(log.failure(error).values())} at {log.place(error)}")


def _say(code: int, problem: str) -> int:
    click.echo(f"tocsin: {' '.join(problem.split())}", err=True)
    return code


if __name__ == "__main__":
    main()
