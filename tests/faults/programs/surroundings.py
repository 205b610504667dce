"""Hooks that change what a program sees of the world: names, and the time of day."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from tests.faults.programs.common import Program

HOST = "broker.faults.test"


def names(program: Program) -> None:
    """Resolve our made-up host name, as long as no file says that the DNS is down."""
    down = Path(os.environ["FAULTS_DNS_DOWN"])
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **options: Any) -> Any:
        if host != HOST:
            return real(host, *args, **options)
        if down.exists():
            program.record("resolved", ok=False)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        program.record("resolved", ok=True)
        return real("127.0.0.1", *args, **options)

    socket.getaddrinfo = resolve


def clock(program: Program) -> None:
    """Shift the time of day by what a file says: for machines without a C compiler to shift it below Python."""
    shift = Path(os.environ["FAULTS_CLOCK"])
    real, real_ns = time.time, time.time_ns

    def offset() -> int:
        return int(shift.read_text() or 0)

    time.time = lambda: real() + offset()
    time.time_ns = lambda: real_ns() + offset() * 10**9
