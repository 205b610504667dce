"""The ``eventbus`` command. Its sub-commands come from distributions by the entry points ``eventbus.cli``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        import click  # noqa: F401  (an extra: the library works without it)
        import rich  # noqa: F401
    except ImportError as error:
        sys.exit(f'the eventbus command needs {error.name}; install it with: pip install "eventbus[cli]"')
    from eventbus._cli.root import run_command

    sys.exit(run_command(sys.argv[1:]))
