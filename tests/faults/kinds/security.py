"""Credentials, permissions and certificates change while programs run."""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eventbus_certs import CertificateAuthority

from tests.faults.fault import Fault, Load
from tests.faults.oracle import Verdict
from tests.faults.run import Run, Side, wait_for


class PermissionRevoked(Fault):
    """R29: the user may not write any more; callers are told, and the rest goes on."""

    name, title = "permission-revoked", "write permission revoked and granted again"
    load = Load(timeout=5.0)
    losses = False
    repeats = 2

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        run.site.permit(write="^$")

        def refused() -> bool:
            """The broker looks at permissions again once a channel has been idle."""
            for side in run.sides.values():
                side.publisher.tell("pause")
            time.sleep(1.5)
            for side in run.sides.values():
                side.publisher.tell("resume")
            time.sleep(0.5)
            return all(self._refused(run, side) for side in run.sides.values())

        wait_for(refused, 60, "the broker to refuse publishes")

    @staticmethod
    def _refused(run: Run, side: Side) -> list[dict[str, Any]]:
        found = [fact for name in ("rejected", "not_sent", "unknown") for fact in run.outcomes(side, name)]
        return [fact for fact in found if "permission" in fact["text"]]

    def witness(self, run: Run) -> None:
        run.logged("access_refused", len(run.sides))

    def heal(self, run: Run) -> None:
        run.site.permit()
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        if not self._refused(run, side):
            verdict.says("untrue", "nobody was told of the missing permission")


class PasswordChanged(Fault):
    """R29: the password is changed; open connections stay, the next ones are refused, and the programs say so."""

    name, title = "password-changed", "password of the user changed"
    load = Load(timeout=4.0)
    repeats = 2
    exit_codes = (0, 3)

    def inject(self, run: Run) -> None:
        run.flow(run.random.randint(5, 40))
        self.password = f"S3cr3t-{secrets.token_hex(8)}"
        run.secrets.append(self.password)
        run.site.set_password(self.password)
        run.flow(20, what="messages to flow on the connections that are open")
        run.site.close_connections("", least=3 * len(run.sides))
        run.until(lambda s: not s.worker.alive, 40, "the worker to give up")
        run.until(lambda s: any(f["status"] == "failed" for f in run.health(s, s.publisher)), 40, "a failed publisher")

    def witness(self, run: Run) -> None:
        run.logged("user 'u-", len(run.sides))

    def heal(self, run: Run) -> None:
        run.site.password = self.password
        for side in run.sides.values():
            side.worker.reap(1.0)
        run.stop_publishers()
        run.mark_healed()
        for side in run.sides.values():
            run.start("worker", side)
            run.start("publisher", side)

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        fatal = side.log.facts("fatal")
        if [fact["error"] for fact in fatal] != ["LoginRefused"]:
            verdict.says("untrue", f"the worker ended by {[(f['error'], f['text']) for f in fatal]}")


class CertificateExpired(Fault):
    """X3: the broker's certificate ends: open connections stay, and no new one is made until there is another."""

    name, title = "certificate-expired", "broker's certificate expired during the run"
    node = "mortal"
    load = Load(timeout=4.0)
    repeats = 2

    def prepare(self, run: Run) -> None:
        self.authority = CertificateAuthority.create()
        self.ends = self._issue(run, 12.0)
        run.secrets.append("PRIVATE KEY")

    def _issue(self, run: Run, seconds: float) -> float:
        """Give the broker a certificate for so many seconds from now; gives when it ends, in Unix seconds."""
        ends = datetime.now(UTC) + timedelta(seconds=seconds)
        issued = self.authority.issue_server(["localhost", "127.0.0.1"], not_after=ends)
        certificate, key = issued.save(run.folder, "broker", overwrite=True)
        folder = run.node.broker.directory / "tls"
        for source, name in ((certificate, "cert.pem"), (key, "key.pem")):
            (folder / name).write_bytes(Path(source).read_bytes())
        run.node.ctl("eval", "ssl:clear_pem_cache().")
        return ends.timestamp()

    def url(self, run: Run) -> str:
        authority = run.folder / "ca.pem"
        if not authority.exists():
            self.authority.save(run.folder)
        host = f"localhost:{run.node.broker.tls_port}"
        return run.site.url(host, scheme="amqps", heartbeat=run.load.heartbeat, cacertfile=quote(str(authority)))

    def inject(self, run: Run) -> None:
        time.sleep(max(0.0, self.ends + 1.0 - time.time()))
        run.flow(20, what="messages to flow on the connections that are open")
        run.site.close_connections("", least=3 * len(run.sides))
        run.until(lambda s: self._told(run, s), 40, "programs to tell of the certificate")

    @staticmethod
    def _told(run: Run, side: Side) -> bool:
        """Whether publisher and worker say what is wrong: in their health, as nothing but the operator can mend it."""
        texts = [[str(f["error"]) for f in run.health(side, p)] for p in (side.publisher, side.worker)]
        return all(any("expired" in text for text in some) for some in texts)

    def witness(self, run: Run) -> None:
        run.must(time.time() > self.ends, "the certificate has not ended yet")
        context = ssl.create_default_context(cafile=str(run.folder / "ca.pem"))
        try:
            with socket.create_connection(("127.0.0.1", run.node.broker.tls_port), 5) as plain:
                context.wrap_socket(plain, server_hostname="localhost").close()
        except ssl.SSLCertVerificationError as error:
            run.must("expired" in str(error), f"the broker's certificate is not taken, but for another reason: {error}")
        else:
            run.must(False, "the broker's certificate is good still")

    def heal(self, run: Run) -> None:
        self._issue(run, 3600.0)
        run.mark_healed()

    def check(self, run: Run, side: Side, verdict: Verdict) -> None:
        texts = {fact["text"] for fact in run.outcomes(side, "not_sent")}
        if any("expired" not in text for text in texts):
            verdict.says("untrue", f"the errors do not say that the certificate has expired: {sorted(texts)[:3]}")
