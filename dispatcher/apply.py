"""Puts links, senders, routes, categories, keywords, replies, hours, caps and the policy of the file into the database.

Apps and daemons read the rows, never the file; by hours and caps alone daemons decide as their file says, and the
rows are for whoever asks which rules hold. One transaction, one instance at a time; applying the same
file again changes nothing, and repairs rows that somebody changed by hand. What operators and daemons write
into the same rows (paused, owner, state) is left alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from config.windows import DAYS, WindowSettings
from dispatcher.recogniser import known_words

if TYPE_CHECKING:
    from config.caps import CapSettings
    from config.settings import CategorySettings, Settings
    from dispatcher.store import Connection

LOCK_KEY = 0x746F_6373_6170  # "tocsap" in octets: the advisory lock of everyone who applies a file
ENTRY_OF = frozenset({"categories", "prefix"})  # keys of a window or cap that say for which messages it is
RECORDED_STOP = frozenset({"staff"})  # a STOP against these is recorded and alerted, not obeyed and not ignored


async def apply(connection: Connection, settings: Settings) -> bool:
    """Make the rows what the file says, and say whether any had to change.

    Raises:
        StoreUnavailable: nothing was changed, or after a failed commit nobody knows.

    """
    wanted = {
        "apply_links": [
            {
                "name": link.name,
                "account": link.account,
                "position": position,
                "alphabet": link.default_alphabet,
                "concatenation": link.concatenation,
                "receipts": link.receipts,
                "national_tables": link.national_tables,
                "substitute": link.substitute,
            }
            for position, link in enumerate(settings.links)
        ],
        "apply_categories": [_category(category) for category in settings.categories],
        "apply_senders": [
            {
                "address": sender.address,
                "position": position,
                "categories": sender.categories,
                "links": sender.links or None,
            }
            for position, sender in enumerate(settings.senders)
        ],
        "apply_routes": [
            {"prefix": route.prefix, "category": category, "links": route.links, "weights": route.weights}
            for route in settings.routes
            for category in route.categories or [""]
        ],
        "apply_auto_replies": [
            {"kind": reply.kind, "sender": reply.sender, "language": reply.language, "body": reply.text}
            for reply in settings.auto_replies
        ],
        "apply_policy": [
            {
                "duplicate_text_within_s": settings.policy.duplicate_text_within_s,
                "duplicate_texts": settings.policy.duplicate_texts,
            }
        ],
        "apply_policy_rules": [
            {"kind": kind, "category": category, "prefix": entry.prefix, "rule": _rule(entry)}
            for kind, entries in (("window", settings.windows), ("cap", settings.caps))
            for entry in entries
            for category in entry.categories
        ],
        "apply_keywords": [
            {"word": word, "sender": sender, "name": keyword.name, "body": keyword.reply}
            for keyword in settings.keywords
            for word in keyword.words
            for sender in keyword.senders or ("",)
        ],
        "apply_known_words": [{"form": form, "kind": kind} for form, kind in known_words()],
    }
    async with connection.transaction():
        await connection.fetch("apply_lock", LOCK_KEY)
        written = 0
        for query, rows in wanted.items():
            (row,) = await connection.fetch(query, json.dumps(rows))
            written += row["written"]
        await connection.fetch("apply_note", settings.sha256, written)
    return written > 0


def _rule(entry: WindowSettings | CapSettings) -> dict[str, object]:
    """What an entry says to each of its categories; its days in their order: another order is no other rule."""
    rule = {key: value for key, value in asdict(entry).items() if key not in ENTRY_OF and value not in (None, "")}
    if isinstance(entry, WindowSettings):
        rule["days"] = [day for day in DAYS if day in entry.days]
    return rule


def _category(category: CategorySettings) -> dict[str, object]:
    stop = "applies" if category.stop else "recorded" if category.name in RECORDED_STOP else "exempt"
    return {
        "name": category.name,
        "lane": category.lane,
        "time_to_live_s": category.time_to_live_s,
        "on_doubt": category.on_doubt,
        "stop": stop,
        "flash": category.flash,
        "max_parts": category.max_parts,
        "keep_text_days": category.keep_text_days,
        "substitute": category.substitute,
        "consent": category.consent,
        "job_states": category.job_states,
    }
