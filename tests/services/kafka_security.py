"""The SASL_SSL listener of a test's Kafka: certificates made with the JDK's keytool, a PLAIN and a SCRAM user."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

from services.kafka_install import PASSWORD, USERNAME, Installation, run

LISTENER = "SECURED"
_KEYSTORE_PASSWORD = "keystore-secret"
_VALID_DAYS = 3650


class Certificates(NamedTuple):
    directory: Path

    @property
    def ca(self) -> Path:
        """What clients trust, as PEM."""
        return self.directory / "ca.pem"

    @property
    def keystore(self) -> Path:
        """The broker's key and its chain."""
        return self.directory / "server.p12"


def certificates(installation: Installation) -> Certificates:
    """Made once for an installation (about 3 s), valid for localhost and 127.0.0.1."""
    made = Certificates(installation.libs_dir / "tls")
    if not made.directory.exists():
        with tempfile.TemporaryDirectory(dir=installation.libs_dir, prefix="making-") as temporary:
            fresh = Certificates(Path(temporary) / "tls")
            fresh.directory.mkdir()
            _make(Path(installation.java).resolve().with_name("keytool"), fresh)
            try:
                fresh.directory.rename(made.directory)  # whole or not at all
            except OSError:
                if not made.directory.exists():  # otherwise somebody else was quicker
                    raise
    return made


def _make(keytool: Path, certificates: Certificates) -> None:
    """A certificate authority and one certificate signed by it: Python >= 3.13 refuses a self-signed server."""
    ca_store, request, signed = (certificates.directory / name for name in ("ca.p12", "server.csr", "server.pem"))
    secret = ["-storepass", _KEYSTORE_PASSWORD, "-storetype", "PKCS12"]
    key = ["-genkeypair", "-keyalg", "EC", "-groupname", "secp256r1", "-validity", str(_VALID_DAYS)]
    in_ca = ["-keystore", str(ca_store), "-alias", "ca", *secret]
    valid_for = ["-ext", "san=dns:localhost,ip:127.0.0.1", "-validity", str(_VALID_DAYS)]
    in_server = ["-keystore", str(certificates.keystore), *secret]
    for arguments in (
        [*key, *in_ca, "-dname", "CN=test CA", "-ext", "bc:critical=ca:true", "-ext", "ku:critical=keyCertSign"],
        ["-exportcert", "-rfc", *in_ca, "-file", str(certificates.ca)],
        [*key, *in_server, "-alias", "server", "-dname", "CN=localhost"],
        ["-certreq", *in_server, "-alias", "server", "-file", str(request)],
        ["-gencert", "-rfc", *in_ca, "-infile", str(request), "-outfile", str(signed), *valid_for],
        ["-importcert", "-noprompt", *in_server, "-alias", "ca", "-file", str(certificates.ca)],
        ["-importcert", "-noprompt", *in_server, "-alias", "server", "-file", str(signed)],
    ):
        run([str(keytool), *arguments])


def broker_properties(certificates: Certificates) -> dict[str, str]:
    """server.properties of the listener SECURED."""
    prefix = f"listener.name.{LISTENER.lower()}"
    modules = "org.apache.kafka.common.security"
    plain = f'{modules}.plain.PlainLoginModule required user_{USERNAME}="{PASSWORD}";'
    return {
        f"{prefix}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
        f"{prefix}.plain.sasl.jaas.config": plain,
        f"{prefix}.scram-sha-256.sasl.jaas.config": f"{modules}.scram.ScramLoginModule required;",
        f"{prefix}.ssl.keystore.location": str(certificates.keystore),
        f"{prefix}.ssl.keystore.type": "PKCS12",
        f"{prefix}.ssl.keystore.password": _KEYSTORE_PASSWORD,
        f"{prefix}.ssl.key.password": _KEYSTORE_PASSWORD,
    }
