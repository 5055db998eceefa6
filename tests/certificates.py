"""TLS certificates for the servers of the tests, made with the openssl command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.programs import need


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form. The certificate is for localhost and 127.0.0.1, and is signed with its own key."""

    certificate: Path
    key: Path

    @property
    def authority(self) -> Path:
        """The certificate that a client must trust."""
        return self.certificate

    @property
    def query(self) -> str:
        """The part of a URL that names the certificate."""
        return f"ssl_ca_certs={quote(str(self.authority))}"


def make_certificates(folder: Path) -> Certificates:
    """Make new certificates in ``folder``. Skips the test if openssl is missing."""
    made = Certificates(folder / "certificate.pem", folder / "key.pem")
    words = ["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    # Without keyUsage, Python 3.13 and later do not accept a certificate as its own authority.
    words += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    words += ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([*need("openssl"), *words], check=True, capture_output=True)
    return made
