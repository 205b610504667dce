"""AMQP 0-9-1 routing in memory: topic patterns, header matches and tables of exchanges.

The one implementation for transports without a broker and for the bus itself. It answers as RabbitMQ
does; tests/rabbitmq/test_routing_agrees_with_broker.py compares the two.
"""

from __future__ import annotations

from eventbus._routing.headers import headers_match
from eventbus._routing.router import Router, UnknownExchange
from eventbus._routing.topics import TopicTrie, topic_matches, validate_pattern, validate_topic

__all__ = [
    "Router",
    "TopicTrie",
    "UnknownExchange",
    "headers_match",
    "topic_matches",
    "validate_pattern",
    "validate_topic",
]
