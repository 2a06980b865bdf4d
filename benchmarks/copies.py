"""A large queue in little time: some jobs go through ``enqueue_many``, and the rows that it left are copied.

What a copy does not share with its row: the id, from the same sequence; the recipient; and the instants, moved alike.
So each column is what enqueue makes of it, today and after a change of it (a test compares the two row by row). A
queued or scheduled job leaves nothing else behind: no event, and no key since the backlog brings none. Checking and
counting the parts of a text is what is saved, and JSON.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import asyncpg

    from benchmarks.enqueuer import Load

TABLES: Final = ("ready", "deferred")
MODELS: Final = 5_000  # jobs that go through enqueue_many
AT_ONCE: Final = 100_000  # rows a transaction
SOONEST_S, SPAN_S = 3_600.0, 86_400.0  # when a deferred job is due: later than any run lasts
ENQUEUE_MANY: Final = "select outcome, job_id from tocsin.enqueue_many($1)"

# $1 and $2: ids of the models, first and last; $3 copies. They stand in the order of their ids, as enqueue leaves them.
COPY: Final = {
    "ready": """
insert into tocsin.ready (link, lane, id, app, client_ref, recipient, sender, body, category, flash, options,
                          enqueued_at, due_at, expires_at, cancel_group, attempt, resends, parts, done, first_wire_at)
select link, lane, nextval('tocsin.job_id'), app, client_ref, {recipient}, sender, body, category, flash, options,
       now(), due_at + (now() - enqueued_at), expires_at + (now() - enqueued_at), cancel_group, attempt, resends, parts,
       done, first_wire_at
from (select r.* from generate_series(0, $3::bigint / ($2::bigint - $1::bigint + 1)) n
      cross join (select * from tocsin.ready where id between $1 and $2) r order by n, r.id limit $3) model
""",
    "deferred": """
insert into tocsin.deferred (due_at, id, link, lane, app, client_ref, recipient, sender, body, category, flash,
                             options, enqueued_at, expires_at, cancel_group, attempt, resends, parts, done,
                             first_wire_at, reason)
select due_at + later, nextval('tocsin.job_id'), link, lane, app, client_ref, {recipient}, sender, body, category,
       flash, options, now(), expires_at + later, cancel_group, attempt, resends, parts, done, first_wire_at, reason
from (select d.*, interval '1 hour' * random() as later
      from generate_series(0, $3::bigint / ($2::bigint - $1::bigint + 1)) n
      cross join (select * from tocsin.deferred where id between $1 and $2) d order by n, d.id limit $3) model
""",
}
RECIPIENT: Final = "'4479' || lpad(floor(random() * 100000000)::bigint::text, 8, '0')"


async def fill(
    connection: asyncpg.Connection, made: Load, jobs: int, table: str, stopped: Callable[[], bool]
) -> Counter[str]:
    """Leave so many marketing jobs in a table; gives their outcomes. Nobody else may enqueue meanwhile."""
    asked = json.loads(made.call(min(jobs, MODELS), 9))
    if table == "deferred":
        now = datetime.now(UTC)
        for job in asked:
            job["not_before"] = (now + timedelta(seconds=SOONEST_S + random.random() * SPAN_S)).isoformat()
    rows = await connection.fetch(ENQUEUE_MANY, json.dumps(asked))
    outcomes = Counter(row["outcome"] for row in rows)
    ids = [row["job_id"] for row in rows]
    copy = await connection.prepare(COPY[table].format(recipient=RECIPIENT))
    left = jobs - len(asked)
    while left and not stopped():
        count = min(left, AT_ONCE)
        await copy.fetch(min(ids), max(ids), count)
        outcomes[rows[0]["outcome"]] += count
        left -= count
    return outcomes
