"""What a failed TLS handshake means, in words that say what to do: one kind of failure, one text.

OpenSSL names its reasons differently from version to version (``SSLV3_ALERT_BAD_CERTIFICATE`` became
``SSL/TLS_ALERT_BAD_CERTIFICATE``), so parts of names are looked for.
"""

from __future__ import annotations

import re
import ssl

from eventbus import TLSNotVerified

# pika keeps no more of an error than its text.
_QUOTED = re.compile(r"\[SSL: ([\w/ ]+)\](?: certificate verify failed: (.*?) \(_ssl\.c)?")

# Alerts by which a broker refuses our certificate. Under TLS 1.3 they come after the handshake, as a lost connection.
_REFUSED = {
    "CERTIFICATE_EXPIRED": "it has expired, or the broker's clock is wrong: renew it (eventbus certs renew)",
    "UNKNOWN_CA": "it does not trust the CA that signed it: have it signed by a CA that is in the broker's cacertfile",
    "CERTIFICATE_REVOKED": "it was revoked: issue another one",
    "UNSUPPORTED_CERTIFICATE": "it is not made for clients: issue one with eventbus certs issue client",
    "CERTIFICATE": "check certfile and keyfile; the broker's log says more",
    "ALERT_ACCESS_DENIED": "check certfile and keyfile; the broker's log says more",
}
_OLD = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW")
_PLAIN = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE")
_NO_AGREEMENT = ("HANDSHAKE_FAILURE", "INSUFFICIENT_SECURITY", "NO_SHARED_CIPHER")


def tls_error(link: BaseException, where: str) -> TLSNotVerified | None:
    """What an error says of TLS; None when it says nothing of it."""
    quoted = _QUOTED.search(str(link))
    if not isinstance(link, ssl.SSLError) and quoted is None:
        return None
    reason = (getattr(link, "reason", None) or (quoted[1] if quoted else "")).upper().replace(" ", "_")
    if isinstance(link, ssl.SSLCertVerificationError) or reason == "CERTIFICATE_VERIFY_FAILED":
        message = getattr(link, "verify_message", None) or (quoted[2] if quoted else None) or "no reason is known"
        return TLSNotVerified(_not_trusted(where, message.rstrip(".")))
    text = _handshake(where, reason)
    return None if text is None else TLSNotVerified(f"{text} ({reason.lower()})")


def _not_trusted(where: str, message: str) -> str:
    """Why we refuse the broker's certificate."""
    known = message.lower()
    if "mismatch" in known:
        return (
            f"the certificate of {where} is for another name ({message}): use a name that is in it, or say which one "
            "it must have with server_name_indication=..."
        )
    if "expired" in known:
        return f"the certificate of {where}, or a CA above it, has expired: the broker needs a new one ({message})"
    if "not yet valid" in known:
        return f"the certificate of {where} is not valid yet: is this machine's clock right? ({message})"
    return f"the certificate of {where} is not trusted ({message}): name the CA that signed it with cacertfile=..."


def _handshake(where: str, reason: str) -> str | None:
    """Why there was no handshake, or why the broker ended the connection right after it."""
    if "CERTIFICATE_REQUIRED" in reason:
        return f"{where} lets in nobody without a client certificate: name ours with certfile=... and keyfile=..."
    for part, advice in _REFUSED.items():
        if part in reason:
            return f"{where} refused our certificate: {advice}"
    if any(part in reason for part in _OLD):
        return f"{where} speaks no version of TLS that we take, which is 1.2 or newer, or what tls_version=... says"
    if any(part in reason for part in _PLAIN):
        return f"{where} does not answer by TLS: is it the port for amqp://, where amqps:// has 5671 by default?"
    if any(part in reason for part in _NO_AGREEMENT):
        return (
            f"{where} ended the TLS handshake: it wants a client certificate (certfile=... and keyfile=...), or takes "
            "none of our ciphers"
        )
    return None
