"""Real servers for tests, benchmarks and people, without Docker or root. Standard library only.

    from services import KafkaServer, RedisServer

    with RedisServer().start(config={"maxmemory": "64mb"}) as redis, KafkaServer().start() as kafka:
        redis.url, kafka.bootstrap_servers
        redis.kill()        # SIGKILL
        redis.restart()     # same port, same data

Every method blocks: in a coroutine that has other work to do, `await asyncio.to_thread(server.restart)`.
`python tests/services start` runs them for people.
"""

from services.kafka_server import KafkaServer
from services.nats_server import NatsServer
from services.ports import free_port
from services.process import MissingServer, ServerFailed
from services.redis_cluster import RedisCluster
from services.redis_sentinels import RedisSentinels
from services.redis_server import RedisServer

__all__ = [
    "KafkaServer",
    "MissingServer",
    "NatsServer",
    "RedisCluster",
    "RedisSentinels",
    "RedisServer",
    "ServerFailed",
    "free_port",
]
