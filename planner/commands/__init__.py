"""One module per command: it reads flags, calls pure functions, and prints what they return."""

HELP_NAMES: dict[str, list[str]] = {"help_option_names": ["-h", "--help"]}
"""Context settings of every command, so that it reads alike under `planner` and when it is called by itself."""
