"""``s3://``: any store that speaks the S3 protocol, by boto3.

Retries with jittered exponential back-off are botocore's standard mode; large files go up and down in parallel parts
(`s3_uploads`); every put carries a checksum that the store verifies, and every get asks for one.  Conditional puts use
``If-None-Match: *``.  Credentials come from boto3's own chain (environment, profile, instance role).
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from harness.checkpoint.names import check_relative_path
from harness.checkpoint.targets.base import MissingObjectError, ObjectInfo
from harness.checkpoint.targets.s3_uploads import PART_BYTES, S3Uploads
from harness.checkpoint.targets.throttle import MIB, Throttle
from harness.errors import CorruptCheckpointError, ExternalServiceError

T = TypeVar("T")

_DELETE_BATCH = 1000
CONNECT_TIMEOUT_SECONDS = 5
READ_TIMEOUT_SECONDS = 30
"""Without a byte: long enough for a slow link to empty its send buffer of parts before the store can answer."""
MAX_ATTEMPTS = 10
"""Of a request.  botocore waits between two of them at most 0.05, 0.1, … 12.8 s, after throttling 1, 2, 4, … 20 s: some
13 s in all where answers fail at once, and within 10 · 30 + 26 s (docs/storage.md: 5½ minutes) where none comes."""
_jitter = random.Random()  # noqa: S311 - no secret
"""Of the back-off.  Python's global stream belongs to the training script: a retry that draws from it, in a background
thread, would change what the script draws next."""
_MISSING = {"404", "NoSuchKey", "NotFound"}
_HINTS = {
    "NoSuchBucket": "create the bucket or correct checkpoint.remote",
    "AccessDenied": "allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on this prefix",
    "403": "allow s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject on this prefix",
    "KMS.AccessDeniedException": "allow kms:GenerateDataKey and kms:Decrypt on the key of checkpoint.s3_kms_key_id",
    "ExpiredToken": "the credentials have expired: renew them",
    "InvalidAccessKeyId": "the access key is not known to this store",
    "SignatureDoesNotMatch": "the secret key is wrong",
}


class S3Target:
    """Objects below ``s3://bucket/prefix``."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint_url: str | None = None,
        bandwidth_limit_mib_per_second: float | None = None,
        sse: str | None = None,
        kms_key_id: str | None = None,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config

        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        config = Config(
            retries={"mode": "standard", "total_max_attempts": max_attempts},
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_pool_connections=16,
            tcp_keepalive=True,
            # Stand-ins and most compatible servers have no DNS name for every bucket.
            s3={"addressing_style": "path"} if endpoint_url else {},
        )
        _keep_off_the_global_stream()
        self._client: Any = boto3.session.Session().client("s3", endpoint_url=endpoint_url, config=config)
        limit = bandwidth_limit_mib_per_second
        self._transfer = TransferConfig(
            multipart_threshold=PART_BYTES,
            multipart_chunksize=PART_BYTES,
            max_concurrency=4,
            num_download_attempts=max_attempts,
            max_bandwidth=None if limit is None else int(limit * MIB),
        )
        self._max_attempts = max_attempts
        encryption = {"ServerSideEncryption": sse, "SSEKMSKeyId": kms_key_id}
        self._uploads = S3Uploads(
            self._client,
            bucket,
            checksum=_checksum_algorithm(),
            encryption={name: value for name, value in encryption.items() if value is not None},
            throttle=Throttle.of_mib(limit),
        )

    @property
    def uri(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put_file(self, key: str, path: Path, *, digest: str | None = None, resume: bool = False) -> None:
        with self._explained("write", key):
            self._uploads.put(self._key(key), path, digest=digest, resume=resume)

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._explained("write", key):
            self._uploads.put_bytes(self._key(key), data)

    def put_bytes_if_absent(self, key: str, data: bytes) -> bool:
        from botocore.exceptions import ClientError

        for attempt in range(5):
            try:
                with self._explained("write", key, let_pass={"412", "409"}):
                    self._uploads.put_bytes(self._key(key), data, IfNoneMatch="*")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 412:
                    # Taken: by somebody else, or by this very put when its answer was lost and botocore sent it again.
                    return self.get_bytes(key) == data
                # 409: another conditional put on the key is being decided; the winner shows at the next try.
                time.sleep(_jitter.uniform(0.0, 0.1 * 2**attempt))
            else:
                return True
        raise ExternalServiceError(f"{self.uri}/{key}: the store keeps answering 409 to a conditional put")

    def get_bytes(self, key: str) -> bytes:
        def read() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key), ChecksumMode="ENABLED")
            data: bytes = answer["Body"].read()
            return data

        return self._reading(key, read)

    def get_file(self, key: str, path: Path) -> None:
        def download() -> None:
            extra = {"ChecksumMode": "ENABLED"}
            self._client.download_file(self._bucket, self._key(key), str(path), ExtraArgs=extra, Config=self._transfer)

        self._reading(key, download)

    def _reading(self, key: str, read: Callable[[], T]) -> T:
        """`read`, again when a body broke off, stalled or failed its checksum: botocore retries no streamed bodies."""
        from botocore.exceptions import (
            FlexibleChecksumError,
            IncompleteReadError,
            ReadTimeoutError,
            ResponseStreamingError,
        )

        for attempt in range(self._max_attempts):
            last = attempt == self._max_attempts - 1
            with self._explained("read", key):
                try:
                    return read()
                except FlexibleChecksumError as error:
                    if last:
                        raise CorruptCheckpointError(
                            f"{key} on {self.uri} differs from the checksum that it was stored with"
                        ) from error
                except (IncompleteReadError, ReadTimeoutError, ResponseStreamingError):
                    if last:
                        raise
            time.sleep(_jitter.uniform(0.0, min(20.0, 0.1 * 2**attempt)))
        raise AssertionError("the last attempt returns or raises")

    def list(self, prefix: str) -> tuple[ObjectInfo, ...]:
        with self._explained("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            )
            start = len(self._prefix)
            return tuple(
                ObjectInfo(found["Key"][start:], found["Size"]) for page in pages for found in page.get("Contents", ())
            )

    def children(self, prefix: str) -> tuple[str, ...]:
        full = self._prefix + prefix
        with self._explained("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=full, Delimiter="/"
            )
            names = []
            for page in pages:
                names += [found["Prefix"][len(full) :].rstrip("/") for found in page.get("CommonPrefixes", ())]
                names += [found["Key"][len(full) :] for found in page.get("Contents", ())]
        return tuple(sorted(filter(None, names)))

    def delete(self, keys: Iterable[str]) -> None:
        names = list(keys)
        # The first key alone: a caller's order (the manifest first) must hold, and a batch promises none.
        for batch in ([names[:1]] if names else []) + [
            names[start : start + _DELETE_BATCH] for start in range(1, len(names), _DELETE_BATCH)
        ]:
            with self._explained("delete", batch[0]):
                answer = self._client.delete_objects(
                    Bucket=self._bucket,
                    Delete={"Objects": [{"Key": self._key(key)} for key in batch], "Quiet": True},
                )
                failed = [error for error in answer.get("Errors", ()) if error.get("Code") not in _MISSING]
                if failed:
                    first = failed[0]
                    raise ExternalServiceError(f"cannot delete {first.get('Key')}: {first.get('Message')}")

    def abort_uploads(self, prefix: str, stale: Callable[[str], bool]) -> int:
        start = len(self._prefix)
        with self._explained("abort unfinished uploads of", prefix):
            return self._uploads.abort(self._prefix + prefix, lambda key: stale(key[start:]))

    def exists(self, key: str) -> bool:
        try:
            with self._explained("read", key):
                self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except MissingObjectError:
            return False
        return True

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - the protocol's
        return None

    def _key(self, key: str) -> str:
        return self._prefix + check_relative_path(key)

    @contextlib.contextmanager
    def _explained(self, action: str, key: str, let_pass: Iterable[str] = ()) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"{self.uri}/{key}"
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            # boto3's transfers wrap what the store answered.
            answer = error if isinstance(error, ClientError) else error.__context__
            if not isinstance(answer, ClientError):
                text = " ".join(str(error).split())
                raise ExternalServiceError(f"cannot {action} {where}: {text[:200]}") from error
            code = str(answer.response.get("Error", {}).get("Code", ""))
            status = str(answer.response.get("ResponseMetadata", {}).get("HTTPStatusCode", ""))
            if status in set(let_pass):
                raise
            if code in _MISSING and action == "read":
                raise MissingObjectError(f"{self.uri} has no {key}") from None
            hint = f" ({_HINTS[code]})" if code in _HINTS else ""
            raise ExternalServiceError(f"cannot {action} {where}: {code}{hint}") from error


def _keep_off_the_global_stream() -> None:
    """Let botocore's back-off draw from `_jitter` (it takes the function as an argument's default)."""
    from botocore.retries.standard import ExponentialBackoff

    function = ExponentialBackoff.__init__
    function.__defaults__ = tuple(
        _jitter.random if value == random.random else value for value in function.__defaults__ or ()
    )


_checksum_lock = threading.Lock()


def _checksum_algorithm() -> str:
    """CRC32C where botocore's compiled extra is installed; CRC32, which needs nothing, elsewhere."""
    with _checksum_lock:
        try:
            import awscrt.checksums  # noqa: F401
        except ImportError:
            return "CRC32"
        return "CRC32C"
