"""Exit codes, and the errors that they stand for (the numbers of sysexits.h where there is one)."""

from __future__ import annotations

from eventbus._errors import (
    AccessRefused,
    ConfigurationError,
    ConnectionFailed,
    LoginRefused,
    NotSent,
    Rejected,
    TLSNotVerified,
)

DONE = 0
FAILED = 1
DIFFERS = 2
USAGE = 64
UNAVAILABLE = 69
REFUSED = 77
CONFIG = 78
INTERRUPTED = 130

_BY_ERROR: tuple[tuple[type[Exception], int], ...] = (
    (LoginRefused, REFUSED),
    (TLSNotVerified, REFUSED),
    (AccessRefused, REFUSED),
    (ConnectionFailed, UNAVAILABLE),
    (ConfigurationError, CONFIG),
)

EXPLAINED = """\b
Exit codes:
  0  done                      69  the broker cannot be reached
  1  failed                    77  refused: login, certificate or permission
  2  plan: broker differs      78  a mistake in code, URL or installation
  64 wrong usage              130  interrupted"""


def code_for(error: BaseException) -> int:
    """The exit code that tells of an error."""
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    # A publish that surely has not happened is told by why not; one that may have happened has simply failed.
    cause = error.__cause__
    return code_for(cause) if cause is not None and isinstance(error, (NotSent, Rejected)) else FAILED
