"""Certificates for servers of the tests, made with the openssl command."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.programs import need


@dataclass(frozen=True)
class Certificates:
    """Files in PEM form. The certificate is for localhost and 127.0.0.1, and signed with its own key."""

    certificate: Path
    key: Path

    @property
    def authority(self) -> Path:
        """What a client has to trust."""
        return self.certificate

    @property
    def query(self) -> str:
        """How a URL says so."""
        return f"ssl_ca_certs={quote(str(self.authority))}"


def make_certificates(folder: Path) -> Certificates:
    """Make new ones in ``folder``. Skips the test where openssl is missing."""
    made = Certificates(folder / "certificate.pem", folder / "key.pem")
    words = ["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    # Without it Python 3.13 and later don't take a certificate as its own authority.
    words += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    words += ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run([*need("openssl"), *words], check=True, capture_output=True)
    return made
