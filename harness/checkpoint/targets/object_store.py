"""Google Cloud Storage (``gs://``) and Azure Blob Storage (``az://``), by obstore (extra ``gcs-azure``).

obstore retries requests with jittered exponential back-off, sends large files in parallel parts and goes on with a
download that broke off.  Conditional puts are the stores' own: ``x-goog-if-generation-match: 0`` and ``If-None-Match``.
Neither store is sent a checksum: what arrives is proven by the digests when it is read back.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoint.names import check_relative_path
from harness.checkpoint.targets.base import MissingObjectError, ObjectInfo
from harness.checkpoint.targets.throttle import MIB, Throttle
from harness.errors import ExternalServiceError, InvalidInputError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_PART_BYTES = 16 * MIB
_PARTS_AT_ONCE = 4
_RETRY_SECONDS = 120
_HINTS = {
    "gs": "allow storage.objects.list, get, create and delete on this bucket: roles/storage.objectUser",
    "az": "allow reading, writing and deleting blobs of this container: the role Storage Blob Data Contributor",
}


def open_object_store(
    scheme: str,
    bucket: str,
    prefix: str,
    *,
    endpoint_url: str | None = None,
    bandwidth_limit_mib_per_second: float | None = None,
) -> ObjectStoreTarget:
    """The target at ``gs://bucket/prefix`` or ``az://container/prefix``; see `open_target`.

    InvalidInputError when the extra is not installed or the environment does not say which Azure account.
    """
    try:
        from obstore.exceptions import BaseError
        from obstore.store import AzureStore, GCSStore
    except ImportError:
        raise InvalidInputError(
            "remote", f"{scheme}://{bucket}", "the extra gcs-azure", "pip install 'spot-planner[gcs-azure]'"
        ) from None
    options: dict[str, Any] = {
        "client_options": {
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=120),
            "allow_http": endpoint_url is not None and endpoint_url.startswith("http://"),
        },
        "retry_config": {"max_retries": 8, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
    }
    store: ObjectStore
    try:
        if scheme == "gs":
            if endpoint_url is not None:
                options["service_account_key"] = _gcs_emulator_key(endpoint_url)
            store = GCSStore(bucket, **options)
        else:
            if endpoint_url is not None:
                options["endpoint"] = endpoint_url
            store = AzureStore(bucket, **options)
    except BaseError as error:
        raise InvalidInputError("remote", f"{scheme}://{bucket}", "a store that can be opened", _line(error)) from error
    return ObjectStoreTarget(
        store,
        f"{scheme}://{bucket}/{prefix}".rstrip("/"),
        prefix,
        hint=_HINTS[scheme],
        throttle=Throttle.of_mib(bandwidth_limit_mib_per_second),
    )


class ObjectStoreTarget:
    """Objects below a prefix of an obstore store."""

    def __init__(
        self, store: ObjectStore, uri: str, prefix: str, *, hint: str = "", throttle: Throttle | None = None
    ) -> None:
        self._store, self._uri, self._hint = store, uri, hint
        self._prefix = f"{prefix}/" if prefix else ""
        self._throttle = throttle or Throttle(None)

    @property
    def uri(self) -> str:
        return self._uri

    def put_file(self, key: str, path: Path, *, digest: str | None = None, resume: bool = False) -> None:  # noqa: ARG002 - a broken upload starts again: obstore does not show its parts
        import obstore

        source: Path | Iterator[bytes] = path if self._throttle.bytes_per_second is None else self._pieces(path)
        with self._explained("write", key):
            obstore.put(self._store, self._key(key), source, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE)

    def put_bytes(self, key: str, data: bytes) -> None:
        import obstore

        with self._explained("write", key):
            obstore.put(self._store, self._key(key), data, use_multipart=False)

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._explained("write", key):
            try:
                obstore.put(self._store, self._key(key), data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # By somebody else, or by this very put when its answer was lost and obstore sent it again.
                return self.get_bytes(key) == data
        return True

    def get_bytes(self, key: str) -> bytes:
        import obstore

        with self._explained("read", key):
            return bytes(obstore.get(self._store, self._key(key)).bytes())

    def get_file(self, key: str, path: Path) -> None:
        import obstore

        with self._explained("read", key):
            found = obstore.get(self._store, self._key(key))
            with path.open("xb") as sink:
                for piece in found.stream(min_chunk_size=MIB):
                    self._throttle.take(len(piece))
                    sink.write(piece)

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        import obstore

        # The store lists whole path segments: ask for the folder, and look at the rest of the prefix here.
        full, start = self._prefix + prefix, len(self._prefix)
        folder = full.rpartition("/")[0]
        with self._explained("list", prefix):
            found = [
                ObjectInfo(entry["path"][start:], entry["size"])
                for page in obstore.list(self._store, folder or None)
                for entry in page
                if entry["path"].startswith(full)
            ]
        return tuple(sorted(found, key=lambda info: info.key))

    def children(self, prefix: str) -> tuple[str, ...]:
        import obstore

        folder = (self._prefix + prefix).rstrip("/")
        with self._explained("list", prefix):
            page = obstore.list_with_delimiter(self._store, folder or None)
        names = [*page["common_prefixes"], *(entry["path"] for entry in page["objects"])]
        return tuple(sorted(name.rstrip("/").rpartition("/")[2] for name in names))

    def delete(self, keys: Iterable[str]) -> None:
        import obstore

        names = [self._key(key) for key in keys]
        # The first key alone: a caller's order (the manifest first) must hold, and a batch promises none.
        for batch in filter(None, (names[:1], names[1:])):
            with self._explained("delete", batch[0]):
                try:
                    obstore.delete(self._store, batch)
                except FileNotFoundError:
                    for name in batch:
                        with contextlib.suppress(FileNotFoundError):
                            obstore.delete(self._store, name)

    def abort_uploads(self, prefix: str, stale: Callable[[str], bool]) -> int:  # noqa: ARG002 - the protocol's
        return 0  # Azure drops uncommitted blocks after a week; on GCS a lifecycle rule does (docs/storage.md)

    def exists(self, key: str) -> bool:
        import obstore

        with self._explained("look at", key):
            try:
                obstore.head(self._store, self._key(key))
            except FileNotFoundError:
                return False
        return True

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - the protocol's
        return None

    def _key(self, key: str) -> str:
        return self._prefix + check_relative_path(key)

    def _pieces(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            while piece := file.read(MIB):
                self._throttle.take(len(piece))
                yield piece

    @contextlib.contextmanager
    def _explained(self, action: str, key: str) -> Iterator[None]:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except FileNotFoundError as error:
            if action == "read":
                raise MissingObjectError(f"{self.uri} has no {key}") from None
            raise ExternalServiceError(
                f"cannot {action} {self.uri}/{key}: not there; create the bucket or correct checkpoint.remote"
            ) from error
        except (BaseError, OSError) as error:
            denied = isinstance(error, (PermissionDeniedError, UnauthenticatedError))
            hint = f" ({self._hint})" if denied and self._hint else ""
            raise ExternalServiceError(f"cannot {action} {self.uri}/{key}: {_line(error)}{hint}") from error


def _gcs_emulator_key(url: str) -> str:
    """How object_store is told of a server that asks for no credentials: only stand-ins for GCS are elsewhere."""
    nobody = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return json.dumps({"gcs_base_url": url, "disable_oauth": True, **nobody})


def _line(error: Exception) -> str:
    """The first paragraph of obstore's error (the second is for its developers), as one line."""
    return " ".join(str(error).split("Debug source")[0].split())[:300]
