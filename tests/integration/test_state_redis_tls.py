"""rediss://: the certificate and the name in it are verified, always."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from oplogbridge.errors import Misconfigured, Unavailable
from oplogbridge.redis_nodes.address import RedisAddress, Server
from oplogbridge.state import StateStore
from oplogbridge.state.redis import RedisStateStore
from oplogbridge.state.urls import state_store
from oplogbridge.testing.clock import ManualClock
from oplogbridge.testing.proxy import FaultProxy
from oplogbridge.testing.state_place import ALICE, acquired
from services import RedisServer

_VALID = datetime.timedelta(days=1)


class Authority:
    """A certificate authority that signs for 127.0.0.1 only."""

    def __init__(self, directory: Path) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self._directory = directory
        self.file = directory / "ca.pem"
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        certificate = self._signed(self._name, self._key.public_key(), constraints, critical=True)
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server_context(self) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
        addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        certificate = self._signed(name, key.public_key(), addresses, critical=False)
        pem = self._directory / "server.pem"
        key_format = serialization.PrivateFormat.PKCS8
        encoding = serialization.Encoding.PEM
        pem.write_bytes(
            key.private_bytes(encoding, key_format, serialization.NoEncryption()) + certificate.public_bytes(encoding)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        return context

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType, *, critical: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _VALID)
            .not_valid_after(now + _VALID)
            .add_extension(extension, critical=critical)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(authority_key, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def store_at(url: str, name: str) -> StateStore:
    return state_store(url, name=name, clock=ManualClock())


async def test_a_trusted_certificate_is_accepted_and_any_other_is_misconfigured(
    redis_server: RedisServer, unique: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    # The packaged redis-server is built without TLS: it ends in the proxy.
    async with FaultProxy("127.0.0.1", redis_server.port, tls=authority.server_context()) as proxy:
        port = proxy.port
        trusting = store_at(f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority.file}", unique)
        await trusting.open()
        await acquired(trusting, "shop", ALICE)
        await trusting.close()

        for url in (
            f"rediss://127.0.0.1:{port}",  # signed by nobody we trust
            f"rediss://localhost:{port}?ssl_ca_certs={authority.file}",  # for another name
            f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'missing.pem'}",
        ):
            with pytest.raises(Misconfigured, match="check the certificate"):
                await store_at(url, unique).open()


async def test_a_server_without_tls_is_not_spoken_to(redis_server: RedisServer, unique: str) -> None:
    address = RedisAddress((Server("127.0.0.1", redis_server.port),), 0, "user", "secret", tls=True)
    with pytest.raises(Unavailable):
        await RedisStateStore(address, name=unique, deadline_seconds=0.3).open()
