"""Bodies: how events become bytes and come back, by kind of class and by content type."""

from __future__ import annotations

from eventbus._codecs.adapters import DEFAULT_ADAPTERS, EventAdapter, adapter_for
from eventbus._codecs.json import JsonCodec
from eventbus._codecs.registry import Codec, Codecs

__all__ = ["DEFAULT_ADAPTERS", "Codec", "Codecs", "EventAdapter", "JsonCodec", "adapter_for"]
