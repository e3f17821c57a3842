"""Files on their way into S3: in one put when small, else in parallel parts that a later attempt can go on with.

An upload that breaks off leaves its parts in the bucket.  The same file uploaded again with `resume` finds them, keeps
every part whose checksum is that of the local bytes, and sends the rest.  What nobody goes on with is aborted by
retention (`abort`), and by the bucket's lifecycle rule after that.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from harness.checkpoint.targets.throttle import MIB, Throttle

PART_BYTES = 16 * MIB
_MAX_PARTS = 9_000  # S3 allows 10,000
_PARTS_AT_ONCE = 4
_DIGEST = "harness-digest"
"""User metadata of an object: the digest that the caller vouched for."""


class S3Uploads:
    """Uploads into one bucket; raises what botocore raises.

    Parameters
    ----------
    client:     a boto3 S3 client (its retries and back-off apply to every request).
    checksum:   ``CRC32C`` or ``CRC32``: computed here, verified by the store.
    encryption: arguments for server-side encryption, or nothing.
    """

    def __init__(
        self, client: Any, bucket: str, *, checksum: str, encryption: Mapping[str, str], throttle: Throttle
    ) -> None:
        self._client, self._bucket, self._checksum = client, bucket, checksum
        self._encryption, self._throttle = dict(encryption), throttle

    def put(self, key: str, path: Path, *, digest: str | None, resume: bool) -> None:
        """Store the file; nothing is visible under `key` before all of it is there."""
        size = path.stat().st_size
        if resume and digest is not None and self._is_there(key, size, digest):
            return
        metadata = {} if digest is None else {_DIGEST: digest}
        if size <= PART_BYTES:
            self._throttle.take(size)
            self.put_bytes(key, path.read_bytes(), Metadata=metadata)
            return
        found = self._find(key) if resume else None
        if found is not None:
            try:
                self._put_parts(key, path, size, digest, *found)
            except self._client.exceptions.NoSuchUpload:
                pass  # somebody aborted or completed it meanwhile: from the start
            else:
                return
        self._put_parts(key, path, size, digest, self._create(key, metadata), {})

    def put_bytes(self, key: str, data: bytes, **options: Any) -> None:
        """Store `data` in one put."""
        self._client.put_object(
            Bucket=self._bucket,
            Key=key,
            Body=data,
            ChecksumAlgorithm=self._checksum,
            **self._encryption,
            **options,
        )

    def abort(self, prefix: str, stale: Callable[[str], bool]) -> int:
        """Abort the unfinished uploads below `prefix` whose key is `stale`; how many."""
        count = 0
        for upload in list(self._unfinished(prefix)):
            if stale(upload["Key"]):
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"])
                count += 1
        return count

    def _is_there(self, key: str, size: int, digest: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            head = self._client.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return bool(head["ContentLength"] == size and head["Metadata"].get(_DIGEST) == digest)

    def _unfinished(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=prefix)
        for page in pages:
            yield from page.get("Uploads", ())

    def _find(self, key: str) -> tuple[str, dict[int, dict[str, Any]]] | None:
        """(id, parts by number) of the newest unfinished upload of `key`; None without one, or leave to look for it."""
        from botocore.exceptions import ClientError

        try:
            uploads = [upload for upload in self._unfinished(key) if upload["Key"] == key]
            if not uploads:
                return None
            newest = max(uploads, key=lambda upload: upload["Initiated"])["UploadId"]
            pages = self._client.get_paginator("list_parts").paginate(Bucket=self._bucket, Key=key, UploadId=newest)
            return newest, {part["PartNumber"]: part for page in pages for part in page.get("Parts", ())}
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in {403, 404, 501}:
                return None  # not allowed, gone, or not known to this store: an upload from the start does it too
            raise

    def _create(self, key: str, metadata: Mapping[str, str]) -> str:
        answer = self._client.create_multipart_upload(
            Bucket=self._bucket, Key=key, ChecksumAlgorithm=self._checksum, Metadata=metadata, **self._encryption
        )
        return str(answer["UploadId"])

    def _put_parts(
        self, key: str, path: Path, size: int, digest: str | None, upload_id: str, there: Mapping[int, dict[str, Any]]
    ) -> None:
        part_bytes = max(PART_BYTES, math.ceil(size / _MAX_PARTS / MIB) * MIB)
        stop = threading.Event()

        def put_part(number: int) -> dict[str, Any]:
            with path.open("rb", buffering=0) as file:
                data = os.pread(file.fileno(), part_bytes, (number - 1) * part_bytes)
            if (part := there.get(number)) is not None and self._same(part, data):
                return self._entry(number, part)
            if stop.is_set():
                return {}  # another part has failed: this upload is over
            self._throttle.take(len(data))
            answer = self._client.upload_part(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                PartNumber=number,
                Body=data,
                ChecksumAlgorithm=self._checksum,
            )
            return self._entry(number, answer)

        with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="checkpoint-part") as pool:
            futures = [pool.submit(put_part, number) for number in range(1, math.ceil(size / part_bytes) + 1)]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                stop.set()
        parts = [future.result() for future in futures]
        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        except self._client.exceptions.NoSuchUpload:
            # The answer to an earlier try was lost, and the upload is complete: then its object is there.
            if digest is None or not self._is_there(key, size, digest):
                raise

    def _entry(self, number: int, part: Mapping[str, Any]) -> dict[str, Any]:
        entry = {"PartNumber": number, "ETag": part["ETag"]}
        name = f"Checksum{self._checksum}"
        return {**entry, name: part[name]} if part.get(name) else entry

    def _same(self, part: Mapping[str, Any], data: bytes) -> bool:
        """Whether a part in the bucket holds `data`: by its checksum, else by an ETag that is an MD5."""
        if part["Size"] != len(data):
            return False
        if checksum := part.get(f"Checksum{self._checksum}"):
            return bool(checksum == _checksum(self._checksum, data))
        etag = part["ETag"].strip('"')
        return bool(etag == hashlib.md5(data, usedforsecurity=False).hexdigest())


def _checksum(algorithm: str, data: bytes) -> str:
    """As S3 writes it: base64 of the big-endian value."""
    if algorithm == "CRC32C":
        from awscrt import checksums

        value = checksums.crc32c(data)
    else:
        value = zlib.crc32(data)
    return base64.b64encode(value.to_bytes(4, "big")).decode("ascii")
