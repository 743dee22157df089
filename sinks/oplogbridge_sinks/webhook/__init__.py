"""NATS-style webhooks, at least once, in order."""

from oplogbridge_sinks.webhook.sink import plugin

__all__ = ["plugin"]
