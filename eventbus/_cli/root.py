"""The root command: settings, logging, and how errors become messages and exit codes."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import click

from eventbus._cli import exits
from eventbus._cli.commands import PluginGroup
from eventbus._cli.settings import Settings
from eventbus._errors import EventBusError


@click.group(
    cls=PluginGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=exits.EXPLAINED,
)
@click.version_option(package_name="eventbus")
@click.option("-v", "--verbose", count=True, help="Log more: -v what happens, -vv everything.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.pass_obj
def eventbus(settings: Settings, verbose: int, debug: bool) -> None:
    """Run services, look at them, and look after their broker.

    Settings come from options, then from EVENTBUS_* variables (EVENTBUS_URL_FILE names a file with the URL), then from
    the table [tool.eventbus] of the nearest pyproject.toml.
    """
    settings.debug = debug
    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    if verbose < 2:  # what the drivers warn of is said again by us, in fewer words
        for name in ("pika", "aio_pika", "aiormq"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


_BEFORE = ("-v", "-vv", "--verbose", "--debug", "--version")


def run_command(arguments: Sequence[str]) -> int:
    """Run the command line; gives its exit code."""
    settings = Settings({})
    try:
        settings = Settings.found()
        result = eventbus.main(
            list(arguments),
            prog_name="eventbus",
            standalone_mode=False,
            auto_envvar_prefix="EVENTBUS",
            default_map=settings.commands,
            obj=settings,
        )
        return result if isinstance(result, int) else exits.DONE
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return exits.INTERRUPTED
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except click.UsageError as mistake:
        mistake.show()
        if isinstance(mistake, click.NoSuchOption) and mistake.option_name in _BEFORE:
            click.echo(f"It goes before the command: eventbus {mistake.option_name} ...", err=True)
        return exits.USAGE
    except click.ClickException as failure:
        failure.show()
        return exits.FAILED
    except BrokenPipeError:  # the reader of our output has gone, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.FAILED
    except EventBusError as error:
        if settings.debug:
            raise
        click.echo(f"error: {error}", err=True)
        return exits.code_for(error)
