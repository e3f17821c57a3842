"""Durable targets: where a checkpoint survives its node.  Importable without torch and without boto3."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from harness.checkpoint.targets.base import MissingObjectError, ObjectInfo, Target
from harness.errors import InvalidInputError, did_you_mean

__all__ = ["MissingObjectError", "ObjectInfo", "Target", "open_target"]

_SCHEMES = ("s3", "file")


def open_target(
    uri: str | Path,
    *,
    endpoint_url: str | None = None,
    bandwidth_limit_mib_per_second: float | None = None,
    create: bool = True,
) -> Target:
    """The durable target at ``s3://bucket/prefix``, ``file:///path`` or a plain path.

    Parameters
    ----------
    endpoint_url:  another S3-compatible server; None is AWS.
    bandwidth_limit_mib_per_second:  for uploads and downloads together; None is unlimited.
    create:  make a directory that does not exist yet; False raises InvalidInputError instead (for reading tools).

    Raises InvalidInputError for a scheme or form that is not understood, ExternalServiceError when a directory cannot
    be made.
    """
    text = str(uri)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme = "file"
    if scheme == "s3":
        from harness.checkpoint.targets.s3 import S3Target

        bucket, _, prefix = rest.partition("/")
        if not bucket:
            raise InvalidInputError("remote", text, "s3://bucket/prefix")
        return S3Target(
            bucket,
            prefix.strip("/"),
            endpoint_url=endpoint_url,
            bandwidth_limit_mib_per_second=bandwidth_limit_mib_per_second,
        )
    if scheme == "file":
        from harness.checkpoint.targets.directory import DirectoryTarget

        if separator:
            parts = urlsplit(text)
            if parts.netloc not in {"", "localhost"} or not parts.path:
                raise InvalidInputError("remote", text, "file:///absolute/path")
            text = unquote(parts.path)
        return DirectoryTarget(Path(text).absolute(), create=create)
    raise InvalidInputError(
        "remote", text, "s3://bucket/prefix, file:///path or a directory", did_you_mean(scheme, _SCHEMES)
    )
