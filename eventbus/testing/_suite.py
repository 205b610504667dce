"""The conformance suite: every scenario, for both buses, over every option set of a transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from eventbus._topology import Topology
from eventbus.testing._features import FEATURES, flavours_of, needs_of
from eventbus.testing._stage import Stage
from eventbus.testing.scenarios import Scenarios
from eventbus.transport import Transport


class ConformanceSuite(Scenarios):
    """Derive a ``Test...`` class from it and give :meth:`make_transport`; pytest does the rest.

    ``option_sets`` names the variants of the transport to test, each with what :meth:`make_transport` gets.
    ``lacks`` names what the transport cannot do, of :data:`FEATURES`, for all option sets (``"priority"``) or for
    one (``"priority@fast"``). Scenarios that need it are left out for those, and the test
    ``test_what_is_left_out`` has one entry for each of them; nothing is ever skipped.
    """

    option_sets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    lacks: ClassVar[frozenset[str] | set[str]] = frozenset()

    # -- for the transport's author ---------------------------------------------------------------------

    def make_transport(self, options: Mapping[str, Any]) -> Transport | str:
        """A transport, or the URL of one, for an option set. Called once for each test."""
        raise NotImplementedError

    def restart_broker(self) -> None:
        """Stop the broker in order and start it again with its data (feature ``restart``)."""
        raise NotImplementedError

    def disconnect(self, transport: Transport) -> None:
        """Cut all connections, as a failing network would; they may come back at once (feature ``disconnect``)."""
        raise NotImplementedError

    def cleanup(self, transport: Transport, topology: Topology) -> None:
        """Remove what a scenario has left on the broker; its names are its own. Nothing by default."""

    # -- machinery --------------------------------------------------------------------------------------

    @pytest.fixture
    def stage(self, request: pytest.FixtureRequest) -> Iterator[Stage]:
        """Where a scenario plays."""
        flavour, option_set = request.param
        stage = Stage(self.make_transport(self.option_sets[option_set]), flavour, option_set, self)
        try:
            yield stage
        finally:
            stage.close()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Take out the scenarios that no option set can play, so that pytest has nothing to skip."""
        super().__init_subclass__(**keywords)
        unknown = {lack.partition("@")[0] for lack in cls.lacks} - set(FEATURES)
        if unknown:
            raise TypeError(f"{cls.__name__}.lacks: unknown {sorted(unknown)}; known are {sorted(FEATURES)}")
        for name, scenario in cls._scenarios():
            if not cls._parameters(scenario):
                setattr(cls, name, None)

    @classmethod
    def _scenarios(cls) -> list[tuple[str, Callable[..., Any]]]:
        found = [(name, getattr(Scenarios, name)) for name in dir(Scenarios) if name.startswith("test_")]
        return [(name, member) for name, member in found if callable(member)]

    @classmethod
    def _parameters(cls, scenario: Callable[..., Any]) -> list[tuple[str, str]]:
        needs = needs_of(scenario)
        return [
            (flavour, option_set)
            for option_set in cls.option_sets
            for flavour in flavours_of(scenario)
            if not any(need in cls.lacks or f"{need}@{option_set}" in cls.lacks for need in needs)
        ]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each bus and option set that can play the scenario."""
        if "stage" in metafunc.fixturenames:
            parameters = self._parameters(metafunc.function)
            ids = [f"{flavour}-{option_set}" for flavour, option_set in parameters]
            metafunc.parametrize("stage", parameters, indirect=True, ids=ids)
        elif "left_out" in metafunc.fixturenames:
            left_out = self._left_out() or ["nothing"]
            metafunc.parametrize("left_out", left_out)

    @classmethod
    def _left_out(cls) -> list[str]:
        out = []
        for name, scenario in cls._scenarios():
            sets = set(cls.option_sets) - {option_set for _, option_set in cls._parameters(scenario)}
            if sets:
                needs = ", ".join(needs_of(scenario))
                out.append(f"{name.removeprefix('test_')} on {', '.join(sorted(sets))}: lacks {needs}")
        return out

    def test_what_is_left_out(self, left_out: str, record_property: Callable[[str, object], None]) -> None:
        """Left-out scenarios stand in every report, and a transport cannot lack what it claims to have."""
        record_property("left_out", left_out)
        for option_set, options in self.option_sets.items():
            given = self.make_transport(options)
            if isinstance(given, str):
                continue
            lacking = {lack for lack in self.lacks if "@" not in lack or lack.endswith(f"@{option_set}")}
            claimed = given.capabilities
            for lack in {name.partition("@")[0] for name in lacking}:
                assert not getattr(claimed, lack.replace("-", "_"), False), f"{option_set} claims {lack}, yet lacks it"
