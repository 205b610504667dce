"""Findings as values."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["pass", "warn", "fail", "skip"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one check has found; ``advice`` is the next step where it did not pass. Holds no secret."""

    check: str
    outcome: Outcome
    found: str
    advice: str = ""


def passed(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check=check, outcome="pass", found=found)


def warned(check: str, found: str, advice: str) -> Finding:
    """It works, and there is something to do."""
    return Finding(check=check, outcome="warn", found=found, advice=advice)


def failed(check: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(check=check, outcome="fail", found=found, advice=advice)


def skipped(check: str, why: str, advice: str = "") -> Finding:
    """It could not be looked at."""
    return Finding(check=check, outcome="skip", found=why, advice=advice)
