"""Fixtures that several modules of this room share."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def memory_path(tmp_path: Path) -> Iterator[Path]:
    """As `tmp_path`, in memory where there is such a file system: fsync is free there, however busy the disk.

    For tests that kill processes: what a process has written outlives its SIGKILL, synced or not.
    """
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="harness-test-", dir=MEMORY) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """moto's S3 server on loopback, on a free port, once per session; its credentials are in the environment."""
    from moto.server import ThreadedMotoServer

    credentials = {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in credentials}
    os.environ.update(credentials)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_buckets = itertools.count(1)


@pytest.fixture
def s3_uri(s3_endpoint: str) -> str:
    """``s3://bucket/prefix`` in a fresh bucket on `s3_endpoint`."""
    import boto3

    bucket = f"bucket-{os.getpid()}-{next(_buckets)}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture
def gcs(s3_uri: str, s3_endpoint: str) -> Iterator[tuple[str, str]]:
    """(``gs://bucket/prefix``, endpoint) of a fresh bucket behind the XML API of Google Cloud Storage."""
    from tests.harness.emulators import GcsFace

    with GcsFace(s3_endpoint, lambda *_: None).running() as face:
        yield s3_uri.replace("s3://", "gs://"), face.url


@pytest.fixture(scope="session")
def azurite_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Azure's emulator, once per session."""
    from tests.harness.emulators import azurite

    with azurite(tmp_path_factory.mktemp("azurite")) as endpoint:
        yield endpoint


@pytest.fixture
def azure(azurite_endpoint: str) -> tuple[str, str]:
    """(``az://container/prefix``, endpoint) of a fresh container in Azure's emulator."""
    from tests.harness.emulators import create_container

    container = f"container-{os.getpid()}-{next(_buckets)}"
    create_container(azurite_endpoint, container)
    return f"az://{container}/some/prefix", azurite_endpoint
