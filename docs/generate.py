"""Writes the reference pages from the code: ``python docs/generate.py``, or ``make docs``.

A page says what the code says: settings from the annotated file and the dataclasses, metrics from the registries,
commands from their help. What the code cannot say (what an event means) stands here, and a test fails when an event
is missing here, or when a page is stale.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import typing
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from config.reader import Between, Matching, Octets  # noqa: E402
from config.replies import Sendable  # noqa: E402
from config.settings import TABLES  # noqa: E402
from dispatcher.cli import tocsin  # noqa: E402
from dispatcher.commands.terminal import EXIT_CODES  # noqa: E402
from dispatcher.metrics import DispatcherMetrics, new_registry  # noqa: E402
from dispatcher.status import EmergencyStatus, EventStatus, LaneStatus, LinkStatus, Status  # noqa: E402
from docs import carriers as carriers_page  # noqa: E402
from docs import cases as cases_page  # noqa: E402
from gateway import GatewayMetrics  # noqa: E402

MADE = "<!-- made by docs/generate.py; do not edit -->\n"


# tocsin.event: type -> (subject, what happened, what `data` has besides client_ref and category)
EVENTS = {
    "job.blocked": ("job", "It will not be sent: a rule forbids it, or no route leads there.", "reason"),
    "job.cancelled": ("job", "The app, or an operator, took it back in time.", "reason"),
    "job.deferred": (
        "job",
        "Its window is closed (`WINDOW_CLOSED`), its number had its share (`FREQ_CAP`); with `job_states`, any wait.",
        "reason, until",
    ),
    "job.delivered": ("job", "Every segment's receipt says delivered. Final.", ""),
    "job.expired": ("job", "Its time ran out before the SMSC took it.", "reason"),
    "job.failed": ("job", "It ended before acceptance, or in part (`PARTIAL`): the reason says why.", "reason"),
    "job.resent": ("job", "What was in doubt goes once more, by rule or by an operator.", "reason, resends"),
    "job.submitted": (
        "job",
        "The SMSC took every segment; told where no receipt is asked for, at the end of doubt, and with `job_states`.",
        "",
    ),
    "job.queued": ("job", "What was put off is due; told of a category with `job_states`.", ""),
    "job.uncertain": ("job", "A segment was written and never answered.", "reason"),
    "job.undelivered": (
        "job",
        "A receipt says that it did not arrive. A later receipt may still raise it.",
        "reason, retry, error",
    ),
    "job.unknown": ("job", "Doubt or waiting ended without an answer or a final receipt.", "reason, error"),
    "inbound.received": ("inbound_id", "A message of a handset is in `tocsin.inbox`.", "link, class, missing"),
    "inbound.emergency": ("inbound_id", "It has words by which somebody may be in danger.", "link"),
    "inbound.keyword": ("inbound_id", "It is a word of a `[[keyword]]`.", "keyword, link"),
    "inbound.loop": (
        "inbound_id",
        "It has no automatic answer, which would have gone to a machine, or on and on.",
        "reason, link, kind",
    ),
    "reply.matched": ("job", "A reply answers what the job asked.", "inbound_id, answer, cancelled"),
    "reply.changed": ("job", "A later reply gives another answer, before the deadline.", "inbound_id, answer"),
    "reply.ambiguous": ("job", "A reply fits this job's question and others'.", "inbound_id"),
    "reply.timeout": ("job", "The deadline passed without an answer.", ""),
    "suppression.added": (
        "ledger id",
        "From now on something is refused for a number; with `recorded_only` its messages go on.",
        "reason, scope, value, inbound_id, recorded_only",
    ),
    "suppression.lifted": ("ledger id", "It is refused no more.", "reason, scope, value, inbound_id"),
    "operator.cancel": ("job", "An operator had the SMSC asked to cancel it.", "kind"),
    "operator.query": ("job", "An operator had the SMSC asked about it.", "kind"),
    "operator.pause": ("link or category", "An operator paused it.", "kind"),
    "operator.requeue": ("job", "An operator sent a job in doubt once more.", "kind"),
    "operator.resume": ("link or category", "An operator let it go on.", "kind"),
}

# Lines of the daemon's log: event -> what it means
LOGGED = {
    "bind_refused": "The SMSC refused credentials, address or number of binds.",
    "chore_failed": "A periodic statement failed; it is tried at its next turn.",
    "claims_held": "For 5 s these lanes have claimed nothing: too much waits for the database; part says what is slow.",
    "claims_resumed": "These lanes claim again.",
    "claims_restored": "After a failover: jobs that the local record knows and no claim of the new primary names.",
    "connect_failed": "No TCP or TLS connection to the SMSC.",
    "connection_lost": "A connection to the database broke; the loop gets another one.",
    "daemon_started": "The process is up and listens; database and carriers may still be missing.",
    "database_failed_over": "The database is on another timeline, or another cluster, than all was accounted for on.",
    "database_reached": "The database answers.",
    "database_unavailable": "The database does not answer; nothing is claimed, answers are kept.",
    "deliver_sm_undecodable": "A deliver_sm that cannot be read was stored as octets.",
    "deliveries_refused": "Too many receipts or replies wait to be written: more get ESME_RTHROTTLED, and come again.",
    "delivery_undecodable": "A deliver_sm body does not decode; it is stored as octets.",
    "doubt_resent": "Messages in doubt went again, as their category's rule says.",
    "doubt_resolved_by_receipt": "A receipt without a known id named the addresses of one message in doubt.",
    "drain_finished": "Windows are empty, outcomes are written, links are given back.",
    "drain_incomplete": "The drain's time was over; what is unsettled is accounted for at the next start.",
    "drain_started": "SIGTERM: nothing more is claimed.",
    "inbound_incomplete": "Parts of a long message from a handset never came; the rest is in the inbox, with its gaps.",
    "inquiry_unencodable": "A message id of the SMSC cannot be written into query_sm or cancel_sm; it was not asked.",
    "jobs_failed_over": "Waiting jobs of a link that cannot send went to the next one of their route.",
    "jobs_lost_by_failover": "Jobs that were written, and whose enqueue the new primary never got.",
    "jobs_released": "Claimed jobs went back to the queue unwritten.",
    "late_answer_settled": "An answer came after its time-out and was used.",
    "lineage_changed": "The new primary of a failover answers: windows are emptied, and the daemon begins again.",
    "event_failed": "A fault of Tocsin's own at one event of the link, which costs itself alone; told once a second.",
    "form_refused": "The SMSC refuses a way to mark flash, or a field; the segment goes again in the `next` form.",
    "link_accounting": "A take-over found jobs in the journals of earlier owners and ends or frees them.",
    "link_congested": "The SMSC tells in `congestion_state` that it is near its limit or at it; the rate was lowered.",
    "link_failed": "A link ended by a fault of ours.",
    "link_failing": "Half of twenty answers were faults; lanes 1 to 5 of the link are held for `for_s` seconds.",
    "link_fault": "The SMSC's answer means that the session is broken; it is bound anew.",
    "link_not_given_back": "A removed link could not be given back: the database is away. It is tried again.",
    "link_handed_over": "A link beyond its share is free for an instance that has fewer.",
    "link_leaving": "This instance has more links than its share: it claims for this one no more and closes it.",
    "link_ownership_lost": "Another instance owns the link now.",
    "link_recovered": "A segment was accepted after a hold; all lanes go again.",
    "link_state_changed": "A link is binding, bound, waiting or stopped.",
    "link_stop_timed_out": "Answers were missing when the link was stopped.",
    "link_taken": "This instance owns the link now.",
    "link_throttled": "The SMSC answered ESME_RTHROTTLED; the rate was halved and climbs back.",
    "local_record_failed": "The local record could not be written; the link waits.",
    "partition_held": "An old day could not be dropped: something reads its table. It is tried again a minute later.",
    "partitions_dropped": "Days older than retention_days were dropped.",
    "partitions_made": "Tables for coming days were made.",
    "pauses_changed": "What operators paused, or let go on, is in force.",
    "pdu_unexpected": "A PDU that has no place here, counted and ignored.",
    "receipt_ids_forgotten": "Receipts contradicted what was learnt, or matched no more: all readings are tried.",
    "receipt_ids_learnt": "A hundred receipts showed how the link spells ids: the contrary reading is tried no more.",
    "receipt_unmatched": "A receipt fits no message that is known; it is kept.",
    "record_failed": "The local record could not be written: disk full, or gone.",
    "reload_applied": "SIGHUP: the file was read and its rows applied (`changed`: any differed). Links added,"
    " removed, changed live, bound anew.",
    "reload_needs_restart": "SIGHUP: keys of the file that only a restart applies.",
    "reload_refused": "SIGHUP: the file is wrong or the database away; nothing was changed.",
    "refused_in_flight": "People refused what was under way: the SMSC is asked to cancel the segments that it has.",
    "segment_unencodable": "A segment does not fit its fields; its job fails.",
    "session_bound": "A bind was accepted.",
    "session_ended": "A session is over: how long it was bound, what it sent.",
    "session_waiting": "The pause before the next bind.",
    "sender_held": "The SMSC refused a sender three times in a row; its messages on this link wait `for_s` seconds.",
    "settle_fenced": "Answers came for a job that somebody else had ended; they are kept as FENCED.",
    "status_unread": "Somebody looks at the status, and the database did not say what it knows; tried again.",
    "submit_misconfigured": "The SMSC refused what the link's settings make: page somebody.",
    "window_worn_out": "Too many unanswered segments on one session; it is bound anew.",
}


# ------------------------------------------------------------------ settings


def _paragraphs(section: str) -> list[tuple[str, list[str]]]:
    """The annotated file's section as (comment, lines of keys), in order."""
    found: list[tuple[str, list[str]]] = []
    comment: list[str] = []
    keys: list[str] = []
    for line in [*section.splitlines(), ""]:
        is_comment = line.startswith("# ")
        is_key = re.match(r"(#|#: )?[a-z_]+ = ", line) is not None
        if keys and not is_key:
            found.append((" ".join(comment), keys))
            comment, keys = [], []
        if is_comment:
            comment.append(line[2:])
        elif is_key:
            keys.append(line)
        elif not line:
            comment = []
    return found


def _range(shape: type, key: str) -> str:
    """What values a key may have, out of the dataclass's annotation."""
    hint = typing.get_type_hints(shape, include_extras=True).get(key)
    pieces = [hint, *typing.get_args(hint)]
    for piece in pieces:
        for rule in typing.get_args(piece) if piece is not None else ():
            if isinstance(rule, Between):
                return f"{rule.low:g} to {rule.high:.15g}"
            if isinstance(rule, Octets):
                return f"{rule.low} to {rule.high} characters"
            if isinstance(rule, Matching | Sendable):
                return rule.form
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f"`{word}`" for word in typing.get_args(hint))
    return ""


def settings() -> str:
    """Every setting: default, range, consequence."""
    text = (ROOT / "config" / "tocsin.toml").read_text(encoding="utf-8")
    lines = [
        MADE,
        "# Settings\n",
        (
            "From `config/tocsin.toml`, which is annotated with the same words. Durations end in `_s` and are seconds."
            " `TOCSIN_DATABASE_URL` replaces `[database] url`; `TOCSIN_CONFIG` names the file.\n"
        ),
    ]
    for table, shape in TABLES.items():
        lines += [f"## `{table}`\n", "| key | default | values | what follows |", "|---|---|---|---|"]
        section = re.split(r"^\[", text.split(f"\n{table}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
        section = re.split(r"\n\n\n", section, maxsplit=1)[0] if table != "[link.tls]" else section
        for comment, keys in _paragraphs(section):
            for line in keys:
                key, _, value = line.lstrip("#: ").partition(" = ")
                if line.startswith("#: "):
                    default = f"none; example `{value}`"
                elif line.startswith("#"):
                    default = f"`{value}`"
                else:
                    default = f"must be set; example `{value}`"
                lines.append(f"| `{key}` | {_cell(default)} | {_cell(_range(shape, key))} | {_cell(comment)} |")
        lines.append("")
    return "\n".join(lines)


# ------------------------------------------------------------------ metrics


def metrics() -> str:
    """Every metric of the product, its labels and what its rise means."""
    registry = new_registry()
    made = DispatcherMetrics(registry)
    made.prepare(["link"], ["category"])
    made.set_queue(0, 0, 0)
    made.observe_submits("category", "link", [0])
    made.observe_receipts("category", "link", [0])
    links = GatewayMetrics()
    links.link("link").answered(0, 0.001)
    registry.register(links)
    lines = [
        MADE,
        "# Metrics\n",
        (
            "On `/metrics` of `[http] listen`. Labels come from closed sets, but for 64 numbers of `command_status` a"
            " link: never a text, a telephone number or an id.\n"
        ),
        "| metric | type | labels | what it is, and what a rise means |",
        "|---|---|---|---|",
    ]
    for family in sorted(registry.collect(), key=lambda family: family.name):
        if not family.name.startswith("tocsin_"):
            continue
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"| `{name}` | {family.type} | {', '.join(labels) or '-'} | {_cell(family.documentation)} |")
    return "\n".join([*lines, ""])


# ------------------------------------------------------------------ the status document


def status() -> str:
    """Every name of the status document, as the dataclasses have it."""
    lines = [
        MADE,
        "# The status document\n",
        "`/status.json` of `[http] listen`, and `tocsin status --json`; the status page and `tocsin status` show it.",
        "Durations end in `_s` and count back from `at`, rates end in `_per_s`; null means that who was asked cannot",
        "know. What the database says is read only while somebody looks, at most every 2 s: `read_age_s` tells how old",
        "it is. Later versions may add names.",
    ]
    for kind, place in (
        (Status, "The document"),
        (EmergencyStatus, "`emergencies`"),
        (LinkStatus, "`links`, each"),
        (LaneStatus, "`lanes`, each"),
        (EventStatus, "`events`, each"),
    ):
        lines += [
            f"\n## {place}\n",
            f"{' '.join((kind.__doc__ or '').split())}\n",
            "| name | type | what it is |",
            "|---|---|---|",
        ]
        hints = typing.get_type_hints(kind)
        for name, comment in re.findall(
            r"^    (\w+): [^#\n]+?(?:  # (.+))?$", inspect.getsource(kind), flags=re.MULTILINE
        ):
            lines.append(f"| `{name}` | {_json_type(hints[name])} | {_cell(comment)} |")
    return "\n".join([*lines, ""])


def _json_type(hint: object) -> str:
    """How a value of this type stands in JSON."""
    words = {str: "text", int: "number", float: "number", bool: "true, false", type(None): "null"}
    if hint in words:
        return words[typing.cast("type", hint)]
    if typing.get_origin(hint) is typing.Literal:
        return "text"
    if typing.get_origin(hint) is tuple:
        return "list"
    if pieces := typing.get_args(hint):
        return " or ".join(_json_type(piece) for piece in pieces)
    return "object"


# ------------------------------------------------------------------ events


def told_events() -> set[str]:
    """Types of tocsin.event that the SQL writes, as far as they stand there as one word."""
    files = [*(ROOT / "dispatcher" / "sql").glob("*.sql"), *(ROOT / "dispatcher" / "migrations").glob("*.sql")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return {word for text in texts for word in re.findall(r"'((?!tocsin)[a-z]+\.[a-z_]+)'", text)}


def logged_events() -> dict[str, tuple[set[str], set[str]]]:
    """Events of the log: name -> levels and fields, out of the syntax trees."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for path in sorted([*ROOT.glob("dispatcher/**/*.py"), *ROOT.glob("gateway/**/*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id="log"), attr="info" | "warning" | "error" | "critical" as level
                    ),
                    args=[ast.Constant(value=str(name)), *_],
                    keywords=keywords,
                ):
                    levels, fields = found.setdefault(name, (set(), set()))
                    levels.add(level)
                    fields.update(keyword.arg for keyword in keywords if keyword.arg)
    return found


def events() -> str:
    """Events for apps, and lines of the log."""
    lines = [
        MADE,
        "# Events\n",
        "## `tocsin.event`, for apps\n",
        (
            "Read by cursor: `select * from tocsin.event where seq > $1 order by seq`. An app sees its own"
            " jobs' events; `data` also has `client_ref` and `category` of a job.\n"
        ),
        "| type | subject | what happened | data |",
        "|---|---|---|---|",
        *(
            f"| `{name}` | {subject} | {_cell(text)} | {data or '-'} |"
            for name, (subject, text, data) in EVENTS.items()
        ),
        "\n## The daemon's log, for operators\n",
        "One line an event on standard output, JSON unless that is a terminal; each has `at`, `level`, `event`.\n",
        "| event | level | fields | meaning |",
        "|---|---|---|---|",
    ]
    for name, (levels, fields) in sorted(logged_events().items()):
        shown = ", ".join(sorted(fields - {"exc_info"})) or "-"
        lines.append(f"| `{name}` | {', '.join(sorted(levels))} | {shown} | {_cell(LOGGED[name])} |")
    return "\n".join([*lines, ""])


# ------------------------------------------------------------------ commands


def commands() -> str:
    """Every command's own help, and the exit codes of all."""
    lines = [
        MADE,
        "# Commands\n",
        "| exit code | meaning |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()),
        "",
        "Errors are one line on standard error that names the file, table and key, or the link, or the field.\n",
    ]
    root = click.Context(tocsin, info_name="tocsin", terminal_width=100, **tocsin.context_settings)
    for name in tocsin.list_commands(root):
        command = tocsin.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=root, max_content_width=100, terminal_width=100)
        lines += [
            f"## `tocsin {name}`\n",
            "<!-- not run: what `--help` prints -->",
            "```text",
            command.get_help(context),
            "```\n",
        ]
    return "\n".join(lines)


def carriers() -> str:
    """What carriers do, line by line."""
    return MADE + "\n" + carriers_page.page()


def cases() -> str:
    """What goes wrong in healthcare, case by case."""
    return MADE + "\n" + cases_page.page()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {
    "settings": settings,
    "metrics": metrics,
    "status": status,
    "events": events,
    "commands": commands,
    "carriers": carriers,
    "cases": cases,
}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (ROOT / "docs" / "reference" / f"{name}.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
