"""Which links may carry a message, by the file: the same rule as ``tocsin.links_of``, which decides.

Asked only about a message that its link refused: whether it is worth handing on. The database's rows choose the link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings


def links_of(settings: Settings, recipient: str, sender: str, category: str) -> set[str]:
    """Links of the longest matching prefix, there of the category's own route, that the sender is provisioned on."""
    routes = [
        route
        for route in settings.routes
        if recipient.startswith(route.prefix) and (not route.categories or category in route.categories)
    ]
    if not routes:
        return set()
    provisioned = next((one.links for one in settings.senders if one.address == sender), ())
    links = max(routes, key=lambda route: (len(route.prefix), bool(route.categories))).links
    return {link for link in links if not provisioned or link in provisioned}


def other_links(settings: Settings, recipient: str, sender: str, category: str, link: str) -> int:
    """How many links besides this one may carry it."""
    return len(links_of(settings, recipient, sender, category) - {link})
