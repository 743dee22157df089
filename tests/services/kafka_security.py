"""The listeners of a test's Kafka that insist on something: SASL over TLS, and TLS with a client's certificate."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.kafka_install import PASSWORD, USERNAME

SASL_LISTENER, CERTIFICATE_LISTENER = "SECURED", "MUTUAL"
KEY_PASSWORD = "key-secret"
# What a broker calls a client by default is its certificate's whole subject.
PRINCIPAL_OF_SUBJECT = "RULE:^CN=([^,]+),OU=bridges$/$1/,DEFAULT"
_VALID = datetime.timedelta(days=1)
_BEARER = "org.apache.kafka.common.security.oauthbearer.OAuthBearer"


class Certificates:
    """A certificate authority in a directory, and what it has signed: PEM files, for localhost and 127.0.0.1."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("test authority")
        self.ca = directory / "ca.pem"
        own = x509.BasicConstraints(ca=True, path_length=0)
        self.ca.write_bytes(_pem(self._signed(self._name, self._key.public_key(), own)))
        self.server, key = self.issue("server")
        self.keystore = directory / "keystore.pem"
        self.keystore.write_bytes(key.read_bytes() + self.server.read_bytes())

    def issue(self, common_name: str, *, unit: str = "", key_password: str | None = None) -> tuple[Path, Path]:
        """The files of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.DNSName("localhost"),
            x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        ]
        signed = self._signed(_name(common_name, unit), key.public_key(), x509.SubjectAlternativeName(names))
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if key_password is not None:
            encryption = serialization.BestAvailableEncryption(key_password.encode())
        certificate_path, key_path = (self._directory / f"{common_name}.{suffix}" for suffix in ("crt", "key"))
        certificate_path.write_bytes(_pem(signed))
        key_path.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
        )
        return certificate_path, key_path

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _VALID)
            .not_valid_after(now + _VALID)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def _name(common_name: str, unit: str = "") -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if unit:  # written last, a subject reads backwards: CN=…,OU=…
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name(attributes)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def broker_properties(certificates: Certificates, jwks_url: str | None) -> dict[str, str]:
    """server.properties of both listeners. With the `jwks_url` of an identity provider, tokens are taken as well."""
    modules = "org.apache.kafka.common.security"
    sasl = f"listener.name.{SASL_LISTENER.lower()}"
    properties = {
        f"{sasl}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256" + (",OAUTHBEARER" if jwks_url else ""),
        f"{sasl}.plain.sasl.jaas.config": f'{modules}.plain.PlainLoginModule required user_{USERNAME}="{PASSWORD}";',
        f"{sasl}.scram-sha-256.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
        f"listener.name.{CERTIFICATE_LISTENER.lower()}.ssl.client.auth": "required",
        f"listener.name.{CERTIFICATE_LISTENER.lower()}.ssl.principal.mapping.rules": PRINCIPAL_OF_SUBJECT,
        "ssl.keystore.location": str(certificates.keystore),
        "ssl.keystore.type": "PEM",
        "ssl.truststore.location": str(certificates.ca),
        "ssl.truststore.type": "PEM",
    }
    if jwks_url:
        properties |= {
            f"{sasl}.oauthbearer.sasl.jaas.config": f"{_BEARER}LoginModule required;",
            f"{sasl}.oauthbearer.sasl.server.callback.handler.class": f"{_BEARER}ValidatorCallbackHandler",
            "sasl.oauthbearer.jwks.endpoint.url": jwks_url,
            "sasl.oauthbearer.expected.audience": "kafka",
        }
    return properties
