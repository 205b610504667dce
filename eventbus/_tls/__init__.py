"""TLS: one value that every transport makes its contexts from, and the checks of what is in it."""

from eventbus._tls.config import TLSConfig

__all__ = ["TLSConfig"]
