"""Runs faults one after the other, on brokers that are started once and shared where that is harmless."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from eventbus_certs import CertificateAuthority
from eventbus_rabbitmq.local_broker import LocalTLS

from tests.faults.brokers import ClusterNode, Node
from tests.faults.fault import Fault
from tests.faults.files import FileNode
from tests.faults.harness import Result, execute


class Suite:
    """The brokers of a suite, started when the first fault needs them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._nodes: dict[str, Node] = {}
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Suite:
        return self

    def __exit__(self, *error: object) -> None:
        self._exits.close()

    def node(self, kind: str) -> Node:
        """The broker of this kind; see :attr:`Fault.node`."""
        if kind not in self._nodes:
            node = self._made(kind)
            self._exits.callback(node.close)
            node.start()
            self._nodes[kind] = node
        return self._nodes[kind]

    def _made(self, kind: str) -> Node:
        if kind == "file":
            return FileNode(self._folder / "files")
        return ClusterNode() if kind == "cluster" else Node(tls=self._tls() if kind == "mortal" else None)

    def _tls(self) -> LocalTLS:
        """A listener for those faults that bring certificates of their own."""
        authority = CertificateAuthority.create()
        authority.save(self._folder)
        certificate, key = authority.issue_server(["localhost"]).save(self._folder, "broker")
        return LocalTLS(cafile=self._folder / "ca.pem", certfile=certificate, keyfile=key)

    def drop(self, kind: str) -> None:
        """Close a broker that no later fault needs: memory and processor are for the others."""
        node = self._nodes.pop(kind, None)
        if node is not None:
            node.close()

    def once(self, fault: Fault, seed: int, mutant: str | None = None) -> Result:
        """One run. Records of a run that passed are removed."""
        folder = self._folder / f"{fault.name}-{mutant or 'real'}-{seed}"
        result = execute(fault, self.node(fault.node), folder, seed, mutant)
        if result.passed:
            shutil.rmtree(folder, ignore_errors=True)
        return result

    def run(
        self, chosen: Sequence[type[Fault]], seed: int, repeats: int | None, tell: Callable[[Result], None]
    ) -> list[Result]:
        """Each fault several times, each time with a seed of its own."""
        results: list[Result] = []
        kinds = [cls.node for cls in chosen]
        for position, cls in enumerate(chosen):
            for number in range(repeats or cls.repeats):
                results.append(self.once(cls(), seed + 100 * position + number))
                tell(results[-1])
            if cls.node not in kinds[position + 1 :]:
                self.drop(cls.node)
        return results
