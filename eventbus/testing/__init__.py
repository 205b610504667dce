"""Testing: helpers for handlers without a broker, and the conformance suite for authors of transports.

* :class:`BusTester` and :class:`AsyncBusTester` run a program's own bus in memory: publish, wait, look.
* :class:`ConformanceSuite` checks a transport against the contract of :mod:`eventbus.transport`, for both
  buses and every option set. A third party's whole test file::

      from acme_bus import AcmeTransport
      from eventbus.testing import ConformanceSuite

      class TestAcme(ConformanceSuite):
          option_sets = {"default": {}, "fast": {"sync": False}}

          def make_transport(self, options):
              return AcmeTransport(**options)

``pip install "eventbus[testing]"`` brings what they need; pytest is imported only with the suite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus.testing._eventually import eventually
from eventbus.testing._records import DeadLettered, Events
from eventbus.testing._tester import AsyncBusTester, BusTester

if TYPE_CHECKING:
    from eventbus.testing._stage import Stage
    from eventbus.testing._suite import ConformanceSuite

__all__ = ["AsyncBusTester", "BusTester", "ConformanceSuite", "DeadLettered", "Events", "Stage", "eventually"]


def __getattr__(name: str) -> Any:
    # Whoever tests handlers may do so without pytest.
    if name == "ConformanceSuite":
        import pytest

        pytest.register_assert_rewrite("eventbus.testing.scenarios", "eventbus.testing._stage")
        from eventbus.testing._suite import ConformanceSuite

        return ConformanceSuite
    if name == "Stage":
        from eventbus.testing._stage import Stage

        return Stage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
