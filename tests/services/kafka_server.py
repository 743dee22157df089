"""A real Apache Kafka: one KRaft node, started in a second or two."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from services import kafka_install, kafka_security
from services.kafka_install import Installation
from services.ports import free_port
from services.process import ServerProcess

_ANSWER_WITHIN_SECONDS = 5.0
_API_VERSIONS_KEY = 18


class KafkaServer(ServerProcess):
    name = "kafka"
    ready_within_seconds = 60.0

    # A test that wants a fault between client and broker runs a proxy on this port, in front of `behind_proxy_port`,
    # and gives the client `proxied_bootstrap_servers`: that listener advertises the proxy, so the client stays on it.
    proxied_port = 0
    behind_proxy_port = 0

    # With `start(secured=True)`: a listener for SASL over TLS, PLAIN or SCRAM-SHA-256, both with this login, and one
    # for TLS with a certificate that `certificates` issued. With `jwks_url`, tokens are a login too.
    secured_port = 0
    certificate_port = 0
    _jwks_url: str | None = None
    username = kafka_install.USERNAME
    password = kafka_install.PASSWORD

    def start(
        self,
        *,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        heap_max: str = "256m",
        secured: bool = False,
        jwks_url: str | None = None,
    ) -> Self:
        """Starts on a free port, waits for its answer to ApiVersions. `config`: server.properties over the defaults."""
        installation = prepared()
        if secured:
            self.secured_port = free_port()
            self.certificate_port = free_port()
            self.certificates = kafka_security.Certificates(self.data_dir / "tls")
            self._jwks_url = jwks_url
        return self._start(installation, port=port, config=config, heap_max=heap_max)

    def _start(
        self,
        installation: Installation,
        *,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        heap_max: str = "256m",
        archive_into: Path | None = None,
    ) -> Self:
        self._installation = installation
        self._archive_into = archive_into
        self._heap_max = heap_max
        self._extra_config = dict(config or {})
        self._controller_port = free_port()
        self.proxied_port = free_port()
        self.behind_proxy_port = free_port()
        if not (self.data_dir / "data").exists():
            shutil.copytree(self._installation.formatted_dir, self.data_dir / "data")  # formatting anew takes 1.1 s
        self._launch(port)
        return self

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def proxied_bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.proxied_port}"

    @property
    def secured_bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.secured_port}"

    @property
    def certificate_bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.certificate_port}"

    @property
    def ca_path(self) -> Path:
        """The authority, as PEM, that signed the certificate of the secured listeners."""
        return self.certificates.ca

    def _command(self) -> list[str]:
        properties = self.data_dir / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        # Since Kafka 4.0 a broker fetches keys only from where it was told on the command line that it may.
        options = [f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={self._jwks_url}"] if self._jwks_url else []
        return self._installation.broker_command(
            properties, heap_max=self._heap_max, archive_into=self._archive_into, options=options
        )

    def _properties(self) -> dict[str, str]:
        listeners = {
            "PLAINTEXT": (self.port, self.port),
            "PROXIED": (self.behind_proxy_port, self.proxied_port),
            "CONTROLLER": (self._controller_port, self._controller_port),
        }
        protocols = dict.fromkeys(listeners, "PLAINTEXT")
        security: dict[str, str] = {}
        if self.secured_port:
            listeners[kafka_security.SASL_LISTENER] = (self.secured_port, self.secured_port)
            listeners[kafka_security.CERTIFICATE_LISTENER] = (self.certificate_port, self.certificate_port)
            protocols[kafka_security.SASL_LISTENER] = "SASL_SSL"
            protocols[kafka_security.CERTIFICATE_LISTENER] = "SSL"
            security = kafka_security.broker_properties(self.certificates, self._jwks_url)
        advertised = [name for name in listeners if name != "CONTROLLER"]
        return {
            **kafka_install.FORMAT_PROPERTIES,
            "controller.quorum.voters": f"{kafka_install.NODE_ID}@127.0.0.1:{self._controller_port}",
            "listeners": ",".join(f"{name}://127.0.0.1:{listens}" for name, (listens, _) in listeners.items()),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{listeners[name][1]}" for name in advertised),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.data_dir / "data"),
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "offsets.retention.minutes": "10080",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            "auto.create.topics.enable": "false",
            # After a SIGKILL the port opens only when the old registration has expired: 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            **security,
            **self._extra_config,
        }

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=_ANSWER_WITHIN_SECONDS) as connection:
            return _api_versions(connection)


def prepared() -> Installation:
    """The installation with its class archive, which one orderly run of a broker leaves behind (about 6 s, once)."""
    installation = kafka_install.installed()
    if not installation.class_archive.exists():
        with KafkaServer() as broker:
            archive = broker.data_dir / "classes.jsa"
            broker._start(installation, archive_into=archive)
            broker.stop()
            if archive.exists():
                # Beside the target first: the temporary directory may be on another file system.
                beside = installation.class_archive.with_suffix(f".{os.getpid()}")
                shutil.move(archive, beside)
                beside.replace(installation.class_archive)
    return installation


def _api_versions(connection: socket.socket) -> bool:
    """ApiVersions v0, the one request that every broker version and security protocol answers at once."""
    correlation, no_client_id = 7, -1
    request = struct.pack(">hhih", _API_VERSIONS_KEY, 0, correlation, no_client_id)
    connection.sendall(struct.pack(">i", len(request)) + request)
    head = b""
    while len(head) < 10:  # size, correlation id, error code
        if not (part := connection.recv(10 - len(head))):
            return False
        head += part
    _, answered, error_code = struct.unpack(">iih", head)
    return (answered, error_code) == (correlation, 0)
