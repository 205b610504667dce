"""``eventbus run``: serve buses until a signal comes."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eventbus._cli.settings import apps_argument

if TYPE_CHECKING:
    from eventbus._cli.serving.health import Board
    from eventbus._cli.serving.plan import Outcome, Plan

log = logging.getLogger("eventbus.run")


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
@click.option("--ready-file", type=click.Path(path_type=Path), help="File that exists while all workers are ready.")
@click.option("--health", metavar="HOST:PORT", help="Serve /ready and /live over HTTP there.")
def run(
    apps: tuple[str, ...], workers: int, reload: bool, grace: float | None, ready_file: Path | None, health: str | None
) -> int:
    """Serve buses until SIGTERM or Ctrl-C, then drain them; a second signal stops at once.

    A bus is named package.module:bus; a function that makes one will do. One bus runs in this process. Several buses,
    or several workers, are a process each; a process that dies is started again. The exit code is 0 when every handler
    and every confirm ended within the grace period.
    """
    from eventbus._cli.serving.health import Board
    from eventbus._cli.serving.http import HealthServer
    from eventbus._cli.serving.plan import Plan

    if reload and workers > 1:
        raise click.UsageError("--reload is for one worker")
    if len(set(apps)) < len(apps):
        raise click.UsageError("a bus is named twice; --workers gives it more processes")
    logging.getLogger("eventbus.run").setLevel(min(logging.INFO, logging.getLogger().level))
    plan = Plan(apps, workers, grace, reload, click.get_current_context().find_root().params["debug"])
    with ExitStack() as ends:
        board = Board(ready_file)
        ends.callback(board.close)
        where = ""
        if health is not None:
            server = HealthServer(health, board)
            ends.callback(server.close)
            where = f"; health at {server.url}"
        log.info("%s%s", plan.told(), where)
        outcome = _serve_here(plan, board) if plan.in_this_process else _supervise(plan, board)
    if outcome.error is not None:
        click.echo(f"error: {outcome.error}", err=True)
    return outcome.code


def _serve_here(plan: Plan, board: Board) -> Outcome:
    from eventbus._cli.serving.early import EarlySignals
    from eventbus._cli.serving.plan import Outcome, code_of, how_ended
    from eventbus._cli.serving.worker import loaded, serve

    (app,) = plan.apps
    early = EarlySignals()
    early.catch()
    board.expect(app)

    def tell(kind: str, value: dict[str, Any]) -> None:
        if board.note(app, value):
            log.info("%s: %s", app, value["status"])

    report = serve(loaded(app, plan.grace), tell, early)
    log.info("%s: %s", app, how_ended(report))
    board.close()
    early.ended(code_of(report))
    return Outcome(code_of(report))


def _supervise(plan: Plan, board: Board) -> Outcome:
    from eventbus._cli.serving.reload import Watcher
    from eventbus._cli.serving.supervisor import Supervisor

    supervisor = Supervisor(plan, board)
    watcher = Watcher(Path.cwd(), supervisor.reload) if plan.reload else None
    try:
        with _signals(supervisor.stop):
            return supervisor.run()
    finally:
        if watcher is not None:
            watcher.close()


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
