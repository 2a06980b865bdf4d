"""The subcommands of ``tocsin``, a file a subject; ``dispatcher/cli.py`` puts them together."""
