"""Temporary certificates for servers on loopback addresses."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

_NOW = datetime.now(UTC)
_IN_AN_HOUR = _NOW + timedelta(hours=1)


class Authority(NamedTuple):
    """A certificate authority.

    :param name: its distinguished name.
    :param key: its private key.
    :param file: its own certificate, for clients that trust it.
    """

    name: x509.Name
    key: ec.EllipticCurvePrivateKey
    file: Path

    def server(
        self, folder: Path, *, host: str = "127.0.0.1", until: datetime = _IN_AN_HOUR
    ) -> ssl.SSLContext:
        """Return the TLS context of a server, with a certificate signed by this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(host)
        chain, private = folder / "signed.pem", folder / "signed.key"
        _write(chain, private, key, _signed(subject, key, self.name, self.key, host=host, until=until))
        return _context(chain, private)


def authority(folder: Path) -> Authority:
    """Create an authority that no system trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("A private authority")
    file = folder / "authority.pem"
    _write(file, folder / "authority.key", key, _signed(name, key, name, key, until=_IN_AN_HOUR))
    return Authority(name, key, file)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1; return its path and that of its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), _name("127.0.0.1")
    chain, private = folder / "cert.pem", folder / "key.pem"
    _write(chain, private, key, _signed(name, key, name, key, host="127.0.0.1", until=_IN_AN_HOUR))
    return chain, private


def _signed(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    host: str | None = None,
    until: datetime,
) -> x509.Certificate:
    is_authority = subject == issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOW - timedelta(hours=2))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        # Python 3.13 and later require these (RFC 5280, section 4.2.1).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
        .add_extension(_usage(is_authority=is_authority), critical=True)
    )
    if host is not None:
        address = x509.IPAddress(ip_address(host))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(chain: Path, private: Path, key: ec.EllipticCurvePrivateKey, signed: x509.Certificate) -> None:
    chain.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _context(chain: Path, private: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    return context
