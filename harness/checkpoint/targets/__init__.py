"""Durable targets: where a checkpoint survives its node.  Importable without torch and without boto3."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.checkpoint.targets.base import MissingObjectError, ObjectInfo, Target
from harness.config import CheckpointConfig
from harness.errors import InvalidInputError, did_you_mean

__all__ = ["MissingObjectError", "ObjectInfo", "Target", "open_configured", "open_target"]

_SCHEMES = ("s3", "gs", "az", "file")


def open_target(
    uri: str | Path,
    *,
    endpoint_url: str | None = None,
    bandwidth_limit_mib_per_second: float | None = None,
    s3_sse: str | None = None,
    s3_kms_key_id: str | None = None,
    create: bool = True,
) -> Target:
    """The durable target at ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``,
    ``file:///path`` or a plain path.

    Parameters
    ----------
    endpoint_url:  another server than the provider's own (for ``s3``, ``gs`` and ``az``).
    bandwidth_limit_mib_per_second:  for all uploads together, and again for all downloads; None is unlimited.
    s3_sse, s3_kms_key_id:  server-side encryption of S3 objects: ``AES256``, or ``aws:kms`` with a key's id or none.
    create:  make a directory that does not exist yet; False raises InvalidInputError instead (for reading tools).

    Credentials come from each provider's own chain (environment, profile, the instance's role), never from a URI.
    Raises InvalidInputError for a scheme or form that is not understood, ExternalServiceError when a directory cannot
    be made.
    """
    text = str(uri)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme = "file"
    limit = bandwidth_limit_mib_per_second
    if scheme in {"s3", "gs", "az"}:
        bucket, _, prefix = rest.partition("/")
        prefix = prefix.strip("/")
        if not bucket or (prefix and any(part in {"", ".", ".."} for part in prefix.split("/"))):
            form = f"{scheme}://{'container' if scheme == 'az' else 'bucket'}/prefix without empty parts, '.' and '..'"
            raise InvalidInputError("remote", text, form)
        if scheme == "s3":
            from harness.checkpoint.targets.s3 import S3Target

            return S3Target(
                bucket,
                prefix,
                endpoint_url=endpoint_url,
                bandwidth_limit_mib_per_second=limit,
                sse=s3_sse,
                kms_key_id=s3_kms_key_id,
            )
        from harness.checkpoint.targets.object_store import open_object_store

        return open_object_store(
            scheme, bucket, prefix, endpoint_url=endpoint_url, bandwidth_limit_mib_per_second=limit
        )
    if scheme == "file":
        from harness.checkpoint.targets.directory import DirectoryTarget

        if separator:
            parts = urlsplit(text)
            if parts.netloc not in {"", "localhost"} or not parts.path:
                raise InvalidInputError("remote", text, "file:///absolute/path")
            text = unquote(parts.path)
        return DirectoryTarget(Path(text).absolute(), create=create, bandwidth_limit_mib_per_second=limit)
    raise InvalidInputError(
        "remote",
        text,
        "s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:///path or a directory",
        did_you_mean(scheme, _SCHEMES),
    )


def open_configured(checkpoint: CheckpointConfig) -> Target:
    """The durable target as a run's config describes it."""
    return open_target(
        checkpoint.remote,
        endpoint_url=checkpoint.s3_endpoint_url if checkpoint.remote.startswith("s3://") else None,
        bandwidth_limit_mib_per_second=checkpoint.bandwidth_limit_mib_per_second,
        s3_sse=checkpoint.s3_sse,
        s3_kms_key_id=checkpoint.s3_kms_key_id,
    )
