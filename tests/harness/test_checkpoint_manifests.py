"""Names, digests, manifests and documents: exact round trips, and nothing that differs by a byte passes."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import random
import zlib
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import harness.checkpoint.digests
from harness.checkpoint.digests import DigestingFile, digest_bytes, digest_file, new_digest
from harness.checkpoint.documents import decode, encode
from harness.checkpoint.durable import publish_directory, write_durably
from harness.checkpoint.manifest import ComponentEntry, FileEntry, Manifest, PartManifest, seal, unseal
from harness.checkpoint.names import check_relative_path, checkpoint_name, parse_checkpoint_name
from harness.errors import CorruptCheckpointError, InvalidInputError


def test_names_sort_by_step_then_generation() -> None:
    assert checkpoint_name(1500, 3) == "step-000001500-g0003"
    assert parse_checkpoint_name("step-000001500-g0003") == (1500, 3)
    assert parse_checkpoint_name(checkpoint_name(10**12, 12345)) == (10**12, 12345)
    for other in (
        "step-1500-g3",
        "step-000001500-g0003.tmp",
        "step-0000001500-g0003",
        ".writing-step-000001500-g0003-1",
    ):
        assert parse_checkpoint_name(other) is None


@pytest.mark.parametrize(
    "path",
    ["../x", "a/../../x", "/etc/passwd", "a//b", "a/", "./a", "a/./b", "", ".", "..", "a\\b\n", "a/\0", "x" * 300],
)
def test_paths_that_climb_out_are_refused(path: str) -> None:
    with pytest.raises(CorruptCheckpointError):
        check_relative_path(path)


def test_digests_are_the_published_functions(tmp_path: Path) -> None:
    """Known answers: SHA-256 against hashlib, CRC-32C of "123456789" (RFC 3720), xxh3_128 of nothing."""
    assert digest_bytes(b"abc", "sha256") == hashlib.sha256(b"abc").hexdigest()
    assert digest_bytes(b"123456789", "crc32c") == "e3069283"
    assert digest_bytes(b"", "xxh3_128") == "99aa06d3014798d86001c324468d497f"
    assert digest_bytes(b"123456789", "crc32c") != f"{zlib.crc32(b'123456789'):08x}"
    with pytest.raises(InvalidInputError, match=r"did you mean 'sha256'"):
        new_digest("sha-256")
    for algorithm in ("xxh3_128", "crc32c", "sha256"):
        path = tmp_path / algorithm
        with DigestingFile(path, algorithm) as file:
            for chunk in (b"a" * 5_000_000, b"", b"b", memoryview(np.arange(10)).cast("B")):
                file.write(chunk)
            digest = file.finish()
        assert digest_file(path, algorithm) == (file.size, digest)
        assert path.stat().st_size == file.size == 5_000_081
    with pytest.raises(FileExistsError):
        DigestingFile(path, "sha256")


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 191, 192, 1000])
def test_two_readers_digest_the_file_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Around the ends of chunks, which the two threads take by turns."""
    monkeypatch.setattr(harness.checkpoint.digests, "CHUNK_BYTES", 64)
    monkeypatch.setattr(harness.checkpoint.digests, "_BY_TWO_BYTES", 0)
    data = random.Random(size).randbytes(size)
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file", "sha256") == (size, hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("chunk", [0, 1, 2, 3])
def test_a_disk_that_fails_fails_the_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """Whichever of the two threads meets it."""
    monkeypatch.setattr(harness.checkpoint.digests, "CHUNK_BYTES", 64)
    monkeypatch.setattr(harness.checkpoint.digests, "_BY_TWO_BYTES", 0)
    (tmp_path / "file").write_bytes(b"x" * 300)
    fill = harness.checkpoint.digests._fill

    def fail(descriptor: int, buffer: memoryview, offset: int) -> int:
        if offset == 64 * chunk:
            raise OSError(errno.EIO, "the disk fails")
        return fill(descriptor, buffer, offset)

    monkeypatch.setattr(harness.checkpoint.digests, "_fill", fail)
    with pytest.raises(OSError, match="the disk fails"):
        digest_file(tmp_path / "file", "sha256")


def manifest(**changes: object) -> Manifest:
    fields = {
        "run_id": "demo",
        "name": "step-000000004-g0002",
        "step": 4,
        "generation": 2,
        "world_size": 2,
        "nodes": 2,
        "digest": "xxh3_128",
        "components": {"model": ComponentEntry(kind="sharded", tensors=2, shapes_digest="00")},
        "files": (FileEntry(path="model/__0_0.distcp", bytes=7, digest="00" * 16),),
        "save_id": "1",
        "created_unix_seconds": 1.7e9,
    }
    return Manifest.model_validate(fields | changes)


def test_a_flip_of_any_bit_of_a_manifest_is_found() -> None:
    data = seal(manifest())
    assert unseal(Manifest, data, "manifest") == manifest()
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(CorruptCheckpointError):
                unseal(Manifest, bytes(flipped), "manifest")
    for cut in range(len(data)):
        with pytest.raises(CorruptCheckpointError):
            unseal(Manifest, data[:cut], "manifest")


class Raw(BaseModel):
    """Seals whatever it is given."""

    content: dict[str, Any]

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return self.content


def test_a_manifest_that_was_sealed_with_nonsense_is_refused() -> None:
    """A good digest over bad content does not help: names, paths and counts are checked."""
    good = json.loads(seal(manifest()))["content"]
    for key, value in (
        ("files", [{"path": "../../etc/passwd", "bytes": 1, "digest": "00000000"}]),
        ("files", [{"path": "a", "bytes": 1, "digest": "00000000"}] * 2),
        ("files", [{"path": "a", "bytes": -1, "digest": "00000000"}]),
        ("components", {"../model": {"kind": "sharded", "tensors": 1, "shapes_digest": ""}}),
        ("step", 5),
        ("surprise", 1),
        ("kind", "part"),
    ):
        with pytest.raises(CorruptCheckpointError, match="manifest cannot be used"):
            unseal(Manifest, seal(Raw(content={**good, key: value})), "manifest")
    with pytest.raises(CorruptCheckpointError, match="upgrade"):
        unseal(Manifest, seal(Raw(content={**good, "schema_version": 2})), "manifest")


def test_a_part_belongs_to_a_node_that_exists() -> None:
    content = json.loads(seal(manifest()))["content"]
    for key in ("save_id", "created_unix_seconds", "torch_version", "product_version", "kind"):
        del content[key]
    assert PartManifest.model_validate({**content, "node": 1}).node == 1
    with pytest.raises(ValueError, match="node 2 of 2"):
        PartManifest.model_validate({**content, "node": 2})


def round_trip(value: object) -> object:
    tensors: dict[str, torch.Tensor] = {}
    document = json.loads(json.dumps(encode(value, tensors, where="test"), allow_nan=False))
    return decode(document, tensors)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    scalars | st.binary(max_size=5) | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.tuples(st.integers()), inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$tuple", "$tensor", "$dict", "x"]), inner, max_size=2)
    ),
    max_leaves=10,
)


@settings(deadline=None, derandomize=True)
@given(values)
def test_documents_come_back_exactly(value: object) -> None:
    """Value, type and order; repr tells 1 from 1.0 and -0.0 from 0.0."""
    again = round_trip(value)
    assert repr(again) == repr(value)


def test_the_less_usual_kinds_come_back_too() -> None:
    assert math.isnan(round_trip(math.nan))  # type: ignore[arg-type]
    for value in (
        {1, "a", (2, 3)},
        frozenset({1}),
        Counter({2: 1, 4: 1}),
        OrderedDict([("b", 1), ("a", 2)]),
        deque([1, 2]),
        torch.Size([1, 2]),
        torch.bfloat16,
        torch.device("cpu"),
        -math.inf,
        np.float32(0.1),
        np.uint64(2**64 - 1),
    ):
        again = round_trip(value)
        assert again == value
        assert type(again) is type(value)
    array = np.arange(6, dtype=">i2").reshape(2, 3)[:, ::2]
    again = round_trip(array)
    assert isinstance(again, np.ndarray)
    assert again.dtype == array.dtype
    assert np.array_equal(again, array)


def test_tensors_get_names_of_their_own() -> None:
    tensors: dict[str, torch.Tensor] = {}
    value = {"a": {"b.c": torch.ones(1)}, "a.b": {"c": torch.zeros(1)}, "list": [torch.full((1,), 2.0)]}
    document = encode(value, tensors, where="test")
    assert sorted(tensors) == ["a.b.c", "a.b.c~2", "list.0"]
    again = decode(document, tensors)
    assert again["a"]["b.c"] == 1
    assert again["a.b"]["c"] == 0
    assert again["list"][0] == 2


@pytest.mark.parametrize("value", [lambda: 0, object(), np.array([object()]), range(3), torch.ones(2, device="meta")])
def test_what_would_not_come_back_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"component test: outer\.1"):
        encode({"outer": [0, value]}, {}, where="test")


def test_documents_that_nobody_wrote_are_corrupt() -> None:
    for document in ({"$unknown": 1}, {"$tensor": "none"}, {"$dtype": "load"}):
        with pytest.raises(CorruptCheckpointError):
            decode(document, {})


def test_files_appear_whole_and_replace_each_other(tmp_path: Path) -> None:
    write_durably(tmp_path / "file", b"one")
    write_durably(tmp_path / "file", b"two")
    assert (tmp_path / "file").read_bytes() == b"two"
    (tmp_path / "new" / "sub").mkdir(parents=True)
    (tmp_path / "new" / "sub" / "a").write_bytes(b"2")
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / "stale").write_bytes(b"1")
    publish_directory(tmp_path / "new", tmp_path / "final")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "final"]
    assert [path.name for path in (tmp_path / "final").rglob("*")] == ["sub", "a"]
