"""``eventbus run``: serve buses until a signal comes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventbus._cli.settings import apps_argument

if TYPE_CHECKING:
    from eventbus._cli.serving.health import Board


@click.command(
    epilog="\b\nExamples:\n  eventbus run shop.emails:bus\n"
    "  eventbus run shop.emails:bus shop.pricing:bus --workers 2\n"
    "  eventbus run shop.emails:bus --reload\n"
    "  eventbus run shop.emails:bus --ready-file /run/emails.ready --health 127.0.0.1:8080"
)
@apps_argument()
@click.option("--workers", type=click.IntRange(1, 512), default=1, show_default=True, help="Processes for each bus.")
@click.option("--reload", is_flag=True, help="Start again when the code changes: for development.")
@click.option("--grace", type=click.FloatRange(0), metavar="S", help="Seconds to drain in; default: the bus's.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="File that exists while all buses are ready.")
@click.option("--health", metavar="HOST:PORT", help="Serve /ready and /live over HTTP there.")
def run(
    apps: tuple[str, ...], workers: int, reload: bool, grace: float | None, ready_file: Path | None, health: str | None
) -> int:
    """Serve buses until SIGTERM or Ctrl-C, then drain them; a second signal stops at once.

    Several buses, or several workers, are a process each; a process that dies is started again. The exit code is 0 when
    every handler and every confirm ended within the grace period.
    """
    from eventbus._cli.serving.health import Board, HealthServer

    if reload and workers > 1:
        raise click.UsageError("--reload is for one worker")
    board = Board(ready_file)
    server = HealthServer(health, board) if health is not None else None
    try:
        if len(apps) == 1 and workers == 1 and not reload:
            return _serve_here(apps[0], grace, board)
        return _supervise(apps, workers, grace, board, reload=reload)
    finally:
        board.close()
        if server is not None:
            server.close()


def _serve_here(app: str, grace: float | None, board: Board) -> int:
    from eventbus._cli.serving.worker import serve

    board.expect(app)
    return serve(app, grace, lambda health: board.note(app, health))


def _supervise(apps: tuple[str, ...], workers: int, grace: float | None, board: Board, *, reload: bool) -> int:
    from eventbus._cli.serving.reload import Watcher
    from eventbus._cli.serving.supervisor import Supervisor

    supervisor = Supervisor(apps, workers, grace, board)
    watcher = Watcher(Path.cwd(), supervisor.reload) if reload else None
    try:
        with _signals(supervisor.stop):
            return supervisor.run()
    finally:
        if watcher is not None:
            watcher.close()


@contextmanager
def _signals(stop: Any) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
