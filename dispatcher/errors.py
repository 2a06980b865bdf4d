"""What can go wrong in the dispatcher.

    DispatcherError
      StoreUnavailable     the database cannot be reached or refuses work; try again later
        NoAnswer           it did not answer in time; whether a statement took place is not known
        LineageChanged     another history of the database answers: a failover; the daemon begins again
      MigrationMissing     the schema is older than this version: run `tocsin migrate`
      SchemaChanged        an applied migration is not the one that this version ships
      StateDirectoryHeld   another process of this host holds the state directory
      OwnershipLost        a link is no longer ours: write nothing more to it

No message built here carries a message text, a password or a full number.
"""

from __future__ import annotations


class DispatcherError(Exception):
    """Root of everything the dispatcher raises."""


class StoreUnavailable(DispatcherError):
    """The database cannot be reached or refuses work."""

    def __init__(self, problem: str, sqlstate: str | None = None) -> None:
        self.sqlstate = sqlstate
        super().__init__(problem)


class NoAnswer(StoreUnavailable):
    """The database did not answer in time."""


class LineageChanged(StoreUnavailable):
    """Another history of the database answers than the one that memory is true of."""

    def __init__(self) -> None:
        super().__init__("the database failed over to another timeline or cluster")


class MigrationMissing(DispatcherError):
    """The schema is older than this version of the product."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        super().__init__(f"the schema lacks {', '.join(names)}: run `tocsin migrate`")


class SchemaChanged(DispatcherError):
    """An applied migration is not the one that this version ships."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"migration {name} was applied with another text: this schema belongs to another version")


class StateDirectoryHeld(DispatcherError):
    """Another process of this host holds the state directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f"{path}: another daemon holds this state directory")


class OwnershipLost(DispatcherError):
    """The link is no longer ours."""

    def __init__(self, link: str) -> None:
        self.link = link
        super().__init__(f"link {link} is owned by another instance")
