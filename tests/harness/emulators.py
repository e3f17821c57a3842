"""Stand-ins for Google Cloud Storage and Azure Blob Storage on loopback.

Azure's own emulator, azurite, is an npm package: ``npm install --prefix build/azurite azurite@3.37.0``.  For Google
there is none to be had that speaks the XML API's puts; that API is S3's but for a few header names, so `GcsFace`
translates those in front of moto.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote, unquote

from tests.harness.fault_proxy import FaultProxy
from tests.requirements import missing

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "devstoreaccount1"
# The emulator's published key: it opens nothing but emulators.
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

_MOTO_AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


class GcsFace(FaultProxy):
    """moto's S3 server as the XML API of Google Cloud Storage."""

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        wanted = request.headers.get("x-goog-if-generation-match")
        if wanted is not None:
            assert wanted == "0", "only 'must not exist' is translated"
            del request.headers["x-goog-if-generation-match"]
            request.headers["If-None-Match"] = "*"
        del request.headers["Authorization"]  # a bearer token of nobody, which moto does not know
        request.headers["Authorization"] = _MOTO_AUTHORIZATION
        path, mark, query = request.path.partition("?")
        request.path = quote(unquote(path)) + mark + query  # moto does not know a bucket whose name is encoded
        status, headers, answer = super()._forward(request, body)
        if status < 300 and "ETag" in headers:
            headers["x-goog-generation"] = "1"
        return status, headers, answer


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[str]:
    """The blob endpoint of a fresh azurite, its account's credentials in the environment.

    Where it is not installed the test is skipped, saying how to install it; in CI that is a failure.
    """
    local = ROOT / "build" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    program = str(local) if local.exists() else shutil.which("azurite-blob")
    if program is None:
        missing("azurite is not installed: npm install --prefix build/azurite azurite@3.37.0")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [program, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence",
         "--blobHost", "127.0.0.1", "--blobPort", str(port)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    before = {name: os.environ.get(name) for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY")}
    os.environ.update(AZURE_STORAGE_ACCOUNT_NAME=ACCOUNT, AZURE_STORAGE_ACCOUNT_KEY=ACCOUNT_KEY)
    try:
        for _ in range(600):
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, "azurite ended at once"
            time.sleep(0.05)  # a process of its own is starting
        yield f"http://127.0.0.1:{port}/{ACCOUNT}"
    finally:
        process.terminate()
        process.wait(20)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def create_container(endpoint: str, name: str) -> None:
    """Azure's Put Container, signed with the account's key (obstore has no call for it)."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    path = f"{endpoint.partition('://')[2].partition('/')[2]}/{name}"
    text = "PUT\n" + "\n" * 11 + f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{path}\nrestype:container"
    signature = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    request = urllib.request.Request(
        f"{endpoint}/{name}?restype=container",
        method="PUT",
        headers={
            "x-ms-date": date,
            "x-ms-version": version,
            "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signature).decode()}",
            "Content-Length": "0",
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 201
