"""A certificate authority for one test: `made = certificates.make(folder); made.server, made.client, made.stranger`."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest


class Pair(NamedTuple):
    cert: str
    key: str


class Made(NamedTuple):
    ca: str
    server: Pair
    client: Pair
    stranger: Pair  # signed by nobody we know


def make(folder: Path) -> Made:
    if not shutil.which("openssl"):
        pytest.skip("openssl is not here to make certificates with")
    signs = "keyUsage=critical,keyCertSign,cRLSign"  # Python 3.13 and later refuse an authority without it
    ca = _pair(folder, "ca", "/CN=test ca", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", signs)
    by = ("-CA", ca.cert, "-CAkey", ca.key, "-addext", "basicConstraints=critical,CA:FALSE")
    server = _pair(folder, "server", "/CN=localhost", *by, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    return Made(ca.cert, server, _pair(folder, "client", "/CN=client", *by), _pair(folder, "stranger", "/CN=client"))


def _pair(folder: Path, name: str, subject: str, *words: str) -> Pair:
    cert, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    command = ("openssl", "req", "-x509", *curve, "-nodes", "-days", "2", "-subj", subject)
    subprocess.run([*command, "-keyout", key, "-out", cert, *words], check=True, capture_output=True)
    return Pair(cert, key)
