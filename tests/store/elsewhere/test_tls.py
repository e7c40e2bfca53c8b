"""An encrypted server: its certificate is checked, and whose word counts is the user's choice."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedcache.errors import TransferFailedError
from embedcache.store.places import root_at
from embedcache.store.reader import open_store
from embedcache.store.sync import pull
from embedcache.store.verify import verify


@dataclass(frozen=True)
class Signed:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def signed(name: str, by: Signed | None = None, host: str | None = None) -> Signed:
    """A certificate of an authority, or of a host by one."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
    )
    if host is not None:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        made = made.add_extension(names, critical=False)
    return Signed(made.sign(by.key if by else key, hashes.SHA256()), key)


@dataclass(frozen=True)
class Encrypted:
    """nginx with two certificates: one of its own address, one of another."""

    url: str
    other_name: str
    folder: Path
    authority: Path


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, free_ports, wait_for) -> Iterator[Encrypted]:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    home, ports = tmp_path_factory.mktemp("tls"), free_ports(2)
    (home / "www").mkdir()
    home.chmod(0o755)
    authority = signed("an authority of this test")
    (home / "ca.pem").write_bytes(authority.pem())
    servers = ""
    for port, host in zip(ports, ("127.0.0.1", "127.0.0.2"), strict=True):
        one = signed(host, authority, host)
        (home / f"{port}.pem").write_bytes(one.pem())
        (home / f"{port}.key").write_bytes(one.key_pem())
        servers += f"""server {{ listen 127.0.0.1:{port} ssl; root {home}/www;
            ssl_certificate {home}/{port}.pem; ssl_certificate_key {home}/{port}.key; }}"""
    user = "user root;" if os.getuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"""{user} daemon off; pid {home}/pid; error_log {home}/error.log; events {{}}
        http {{ access_log off; client_body_temp_path {home}/b; proxy_temp_path {home}/p;
          fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
          {servers} }}"""
    )
    process = subprocess.Popen(["nginx", "-c", str(home / "nginx.conf"), "-e", f"{home}/early.log"])
    try:
        for port in ports:
            wait_for(port, process)
        urls = [f"https://127.0.0.1:{port}/study" for port in ports]
        yield Encrypted(*urls, home / "www", home / "ca.pem")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def store(make, encrypted) -> Path:
    return make().build(encrypted.folder / "study")


def test_a_store_behind_https_is_pulled_and_read_in_place(
    store, encrypted, make, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(encrypted.authority))
    pull(encrypted.url, tmp_path / "b.zarr")
    assert verify(tmp_path / "b.zarr").content == verify(store).content
    there = open_store(root_at(encrypted.url))
    assert np.array_equal(there.to_numpy(make().contract().feature_id), make().vectors())


def test_a_certificate_of_nobody_we_trust_is_refused(store, encrypted, tmp_path) -> None:
    with pytest.raises(TransferFailedError, match=r"UnknownIssuer.*SSL_CERT_FILE"):
        pull(encrypted.url, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()


def test_a_certificate_of_another_host_is_refused(store, encrypted, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(encrypted.authority))
    with pytest.raises(TransferFailedError, match="refused: NotValidForName"):
        pull(encrypted.other_name, tmp_path / "b.zarr")
