"""Redis Streams: exactly once, in order. See `sink` for the promise, `scripts` for the atomic steps."""

from oplogbridge_sinks.redis.settings import RedisSettings
from oplogbridge_sinks.redis.sink import RedisSink, plugin

__all__ = ["RedisSettings", "RedisSink", "plugin"]
