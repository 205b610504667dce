"""What OpenSSL's reasons become, in the spellings of its versions and as pika quotes them."""

from __future__ import annotations

import ssl

import pytest
from eventbus_rabbitmq._errors import connection_error
from eventbus_rabbitmq._tls_errors import tls_error

from eventbus import ConnectionFailed, TLSNotVerified
from eventbus._supervisor import FailureKind

EXPIRED = "certificate verify failed: certificate has expired"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)", "name ours with"),
        (
            "[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired (_ssl.c:2580)",
            "eventbus certs renew",
        ),
        (
            "[SSL: SSL/TLS_ALERT_CERTIFICATE_EXPIRED] ssl/tls alert certificate expired (_ssl.c:1)",
            "eventbus certs renew",
        ),
        ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)", "does not trust the CA"),
        ("[SSL: SSL/TLS_ALERT_UNSUPPORTED_CERTIFICATE] unsupported certificate (_ssl.c:1)", "not made for clients"),
        ("[SSL: SSL/TLS_ALERT_BAD_CERTIFICATE] ssl/tls alert bad certificate (_ssl.c:1)", "refused our certificate"),
        ("[SSL: SSL/TLS_ALERT_HANDSHAKE_FAILURE] handshake failure (_ssl.c:1)", "it wants a client certificate"),
        ("[SSL: TLSV1_ALERT_PROTOCOL_VERSION] tlsv1 alert protocol version (_ssl.c:1)", "no version of TLS"),
        ("[SSL: UNSUPPORTED_PROTOCOL] unsupported protocol (_ssl.c:1)", "no version of TLS"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)", "the port for amqp://"),
        (f"[SSL: CERTIFICATE_VERIFY_FAILED] {EXPIRED} (_ssl.c:1006)", "or a CA above it, has expired"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, x (_ssl.c:1)", "another name"),
        (
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: IP address mismatch, x (_ssl.c:1)",
            "another name",
        ),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: not yet valid (_ssl.c:1)", "clock right"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1)", "cacertfile"),
    ],
)
def test_a_reason_says_what_to_do(text: str, said: str) -> None:
    for quoting in (ssl.SSLError(1, text), ConnectionError(text)):
        found = tls_error(quoting, "bus.example:5671")
        assert said in str(found)
        assert "bus.example:5671" in str(found)
        ours, kind = connection_error(RuntimeError(quoting), "bus.example", 5671, "user", "/", opening=True)
        assert (type(ours), kind) == (TLSNotVerified, FailureKind.FATAL)


def test_what_is_not_about_certificates_or_versions_is_a_lost_connection() -> None:
    ended = ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] bad record mac (_ssl.c:1)")
    assert tls_error(ended, "h") is None
    assert tls_error(OSError("certificate"), "h") is None
    ours, kind = connection_error(ended, "bus.example", 5671, "user", "/", opening=False)
    assert (type(ours), kind) == (ConnectionFailed, FailureKind.TRANSIENT)
