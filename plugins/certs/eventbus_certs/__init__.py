"""A certificate authority for an event bus: issue, renew, inspect and bundle TLS certificates.

Everything is imported when it is used, so that ``eventbus --help`` does without ``cryptography``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventbus_certs._authority import CertificateAuthority
    from eventbus_certs._inspecting import CertificateInfo, bundle, inspect
    from eventbus_certs._issued import Issued
    from eventbus_certs._renewing import renew

__all__ = ["CertificateAuthority", "CertificateInfo", "Issued", "bundle", "inspect", "renew"]

_HOMES = {
    "CertificateAuthority": "_authority",
    "CertificateInfo": "_inspecting",
    "Issued": "_issued",
    "bundle": "_inspecting",
    "inspect": "_inspecting",
    "renew": "_renewing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
