"""The command line: ``mobilenext VERB``."""

from mobilenext.cli.program import main

__all__ = ["main"]
