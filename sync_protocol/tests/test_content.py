from __future__ import annotations

import io
import random
from hashlib import sha256

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_protocol import types
from sync_protocol.chunking import LARGEST, SMALLEST, cut
from sync_protocol.hashing import EMPTY, blob_id, content_id, normal_blobs

MIB = 1024 * 1024


def cut_bytes(data: bytes) -> list[bytes]:
    return list(cut(io.BytesIO(data), len(data)))


@pytest.mark.parametrize("size", [0, 1, LARGEST - 1, LARGEST, LARGEST + 1, 13 * MIB + 7])
def test_the_pieces_are_the_whole(size: int) -> None:
    data = random.Random(size).randbytes(size)
    pieces = cut_bytes(data)
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= LARGEST for piece in pieces)
    if size <= LARGEST:
        assert len(pieces) == (size > 0)
    else:
        assert all(len(piece) >= SMALLEST for piece in pieces[:-1])


@pytest.mark.parametrize("at", [0, 7 * MIB, 20 * MIB])
def test_a_byte_put_in_changes_few_pieces(at: int) -> None:
    data = random.Random(1).randbytes(20 * MIB)
    before = {blob_id(piece) for piece in cut_bytes(data)}
    after = [blob_id(piece) for piece in cut_bytes(data[:at] + b"!" + data[at:])]
    assert len([blob for blob in after if blob not in before]) <= 2


def test_a_file_that_grows_while_it_is_cut_is_read_to_its_end() -> None:
    data = random.Random(2).randbytes(9 * MIB)
    assert b"".join(cut(io.BytesIO(data), 10)) == data


def test_one_blob_names_its_content_and_none_the_empty_one() -> None:
    assert content_id([]) == EMPTY == sha256(b"").hexdigest()
    assert content_id([blob_id(b"x")]) == blob_id(b"x")
    assert normal_blobs([EMPTY, blob_id(b"x"), EMPTY]) == (blob_id(b"x"),)


@given(
    st.lists(st.binary(max_size=4).map(blob_id), max_size=6), st.lists(st.binary(max_size=4).map(blob_id), max_size=6)
)
def test_two_contents_have_one_name_only_when_they_are_one(one: list[str], other: list[str]) -> None:
    one, other = list(normal_blobs(one)), list(normal_blobs(other))
    assert (content_id(one) == content_id(other)) == (one == other)


@pytest.mark.parametrize(
    "body",
    [
        b'{"op_id":"operation-1","ops":[{"op":"mkdir","parent":"root","name":"a","typo":1}]}',
        b'{"op_id":"operation-1","ops":[{"op":"rmdir","parent":"root","name":"a"}]}',
        b'{"op_id":"operation-1","ops":[]}',
        b'{"op_id":"short","ops":[{"op":"mkdir","parent":"root","name":"a"}]}',
        b'{"op_id":"operation-1","ops":[{"op":"mkdir","parent":"../x","name":"a"}]}',
        b'{"op_id":"operation-1","ops":[{"op":"delete","node":"n1","base":-1}]}',
        b'{"op_id":"operation-1","ops":[{"op":"delete","node":"n1","base":9007199254740993}]}',
        b'{"op_id":"operation-1","ops":[{"op":"put","parent":"root","name":"a","blobs":["XY"],"size":1,"mtime":0}]}',
        b'{"op_id":"operation-1","ops":[{"op":"put","parent":"root","name":"a","blobs":["' + b"a" * 64 + b'\\n"],'
        b'"size":1,"mtime":0}]}',
        b'{"op_id":"operation-1","ops":[{"op":"put","parent":"root","name":"a","blobs":[],"size":1.5,"mtime":0}]}',
    ],
)
def test_a_request_that_is_not_as_described_is_refused(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body, type=types.CommitRequest)


def test_every_operation_survives_the_wire() -> None:
    request = types.CommitRequest(
        "operation-1",
        [
            types.Put([blob_id(b"x")], 1, 0, node="n1", base=3, executable=True, on_conflict="fail"),
            types.Mkdir("root", "é"),
            types.Move("n1", 3, "@1", "b"),
            types.Delete("n1", 4, 9),
            types.Restore("n1", 3),
        ],
        atomic=True,
    )
    assert msgspec.json.decode(msgspec.json.encode(request), type=types.CommitRequest) == request
