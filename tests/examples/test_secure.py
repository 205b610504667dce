"""The founding scenario: a broker from nothing, services over mutual TLS with the permissions of their code."""

from __future__ import annotations

from tests.examples.test_demo import run

REFUSED = {
    "without a certificate": "TLSNotVerified",
    "trusting another CA": "TLSNotVerified",
    "with a certificate of another CA": "TLSNotVerified",
    "with an expired certificate": "CertificateError",
    "with a certificate that is no user's": "LoginRefused",
    "to another host name": "TLSNotVerified",
    "over TCP without TLS": "ConnectionFailed",
    "to a server of TLS 1.1": "TLSNotVerified",
    "as a client of TLS 1.1": "the broker refuses it",
}


def test_the_services_work_over_mutual_tls_and_everybody_else_is_refused() -> None:
    ran = run("secure")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "guest" not in ran.stdout.partition("Customers,")[0].replace("none of them a guest", "")
    for line in ("emails     mail to bo@example.com: welcome, Bo!", "users      asked for 3 x tea: 13.50 EUR"):
        assert line in ran.stdout
    lines = ran.stdout.splitlines()
    for title, error in REFUSED.items():
        said = lines[lines.index(f"   {title}") + 1].strip()
        assert said.startswith(error), title
    assert len({lines[lines.index(f"   {title}") + 1] for title in REFUSED}) == len(REFUSED), (
        "each has words of its own"
    )
    assert ran.stdout.rstrip().endswith("Everything adds up.")
    assert ran.stderr == ""
