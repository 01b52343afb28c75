"""Throw-away certificates for Jolokia in a sandbox: an authority, the nodes' own, and the one client that may ask."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT = "mainstay"
# Wide enough for every clock: a sandbox lives for minutes, and a drill may shift the time.
_BEGIN, _END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC)


class Authority:
    """A certificate authority in a directory; made on the first call, found ever after.

    :param directory: nobody but us may enter: it holds the authority's key
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca.key"
        if not self.certificate.exists():
            key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
            name = _name("Mainstay sandbox")
            certificate = (
                _builder(name, name, key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(_usage(signs=True), critical=True)
                .sign(key, hashes.SHA256())
            )
            _save_key(self._key, key)
            self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, common_name: str, *, address: str | None = None) -> tuple[Path, Path]:
        """Give the certificate and the key of *common_name*: a server's at *address*, else a client's."""
        certificate, key_file = (self._directory / f"{common_name}.{kind}" for kind in ("pem", "key"))
        if certificate.exists():
            return certificate, key_file
        authority_key = serialization.load_pem_private_key(self._key.read_bytes(), password=None)
        assert isinstance(authority_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
        authority = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if address else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(_name(common_name), authority.subject, key.public_key())
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        if address:
            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
            builder = builder.add_extension(names, critical=False)
        signed = builder.sign(authority_key, hashes.SHA256())
        _save_key(key_file, key)
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        return certificate, key_file


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not signs,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _save_key(path: Path, key: rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
