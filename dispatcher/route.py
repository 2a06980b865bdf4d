"""Which links may carry a message, by the file: the same rule as ``tocsin.links_of``, which decides.

Asked only about a message that its link refused: whether it is worth handing on. The database's rows choose the link.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings


def links_of(settings: Settings, recipient: str, sender: str) -> tuple[str, ...]:
    """Links of the longest matching prefix that the sender is provisioned on, in order of preference."""
    routes = [route for route in settings.routes if recipient.startswith(route.prefix)]
    if not routes:
        return ()
    provisioned = next((one.links for one in settings.senders if one.address == sender), ())
    links = max(routes, key=lambda route: len(route.prefix)).links
    return tuple(link for link in links if not provisioned or link in provisioned)


def other_links(settings: Settings, recipient: str, sender: str, link: str) -> int:
    """How many links besides this one may carry it."""
    return sum(other != link for other in links_of(settings, recipient, sender))
