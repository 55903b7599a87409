"""ROOT's compressed blocks, whole, in part and broken."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from root_bytes import CODECS, compress
from servicex_server.run.read import decompress as module
from servicex_server.run.read.decompress import Decompressor, UnknownCodec, decompressor, split_blocks

CONTENT = np.arange(10_000, dtype=">u4").tobytes()


def read(packed: bytes, size_bytes: int, want: int) -> bytes:
    return bytes(Decompressor().read(split_blocks(memoryview(packed), size_bytes), want))


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None)
@given(want=st.integers(0, len(CONTENT)), block_bytes=st.sampled_from([2**24 - 1, 20_000, 7_777]))
def test_a_part_is_the_beginning_of_the_whole(codec: str, want: int, block_bytes: int) -> None:
    got = read(compress(CONTENT, codec, block_bytes), len(CONTENT), want)
    assert len(got) >= want
    assert got == CONTENT[: len(got)]


@pytest.mark.parametrize("codec", CODECS)
def test_blocks_may_change_their_codec(codec: str) -> None:
    packed = compress(CONTENT[:1000], codec) + compress(CONTENT[1000:], "ZS")
    assert read(packed, len(CONTENT), len(CONTENT)) == CONTENT


@pytest.mark.parametrize("codec", CODECS)
def test_more_than_16_megabytes_come_in_several_blocks(codec: str) -> None:
    data = bytes(17 * 1024 * 1024)
    packed = compress(data, codec)
    assert len(split_blocks(memoryview(packed), len(data))) == 2
    assert read(packed, len(data), len(data)) == data


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_without_effect(codec: str, data: st.DataObject) -> None:
    packed = bytearray(compress(CONTENT, codec))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packed)))
    try:
        got = read(bytes(packed[: cut or None]), len(CONTENT), len(CONTENT))
    except ValueError:
        return
    assert len(got) == len(CONTENT)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("claimed", [100, 2**24 - 1])
def test_a_block_that_holds_less_or_more_than_it_says_is_an_error(codec: str, claimed: int) -> None:
    packed = bytearray(compress(CONTENT, codec))
    packed[6:9] = claimed.to_bytes(3, "little")
    with pytest.raises(ValueError, match=rf"a {codec} block"):
        read(bytes(packed), claimed, claimed)


def test_sizes_that_do_not_add_up_are_an_error() -> None:
    packed = compress(CONTENT, "ZL")
    with pytest.raises(ValueError, match="hold 40000 bytes where 40001 are due"):
        split_blocks(memoryview(packed), len(CONTENT) + 1)
    with pytest.raises(ValueError, match="is truncated"):
        split_blocks(memoryview(packed)[:-1], len(CONTENT))
    with pytest.raises(ValueError, match="at most"):
        split_blocks(memoryview(packed), module.MOST_BYTES + 1)


def test_a_frame_that_asks_for_much_memory_gets_none() -> None:
    """The content's size in the frame's header, which one-shot calls of zstandard allocate."""
    frame = b"\x28\xb5\x2f\xfd" + b"\xe0" + (2**40).to_bytes(8, "little") + b"\x01\x00\x00"
    packed = b"ZS\x01" + len(frame).to_bytes(3, "little") + (1000).to_bytes(3, "little") + frame
    with pytest.raises(ValueError, match="a ZS block"):
        read(packed, 1000, 1000)


@pytest.mark.parametrize("tag", [b"CS", b"??"])
def test_what_is_not_known_says_so(tag: bytes) -> None:
    with pytest.raises(UnknownCodec, match=tag.decode().replace("?", r"\?")):
        read(tag + compress(CONTENT, "ZL")[2:], len(CONTENT), 10)


def test_each_thread_has_its_own() -> None:
    found: list[Decompressor] = []
    thread = threading.Thread(target=lambda: found.extend([decompressor(), decompressor()]))
    thread.start()
    thread.join()
    assert found[0] is found[1]
    assert found[0] is not decompressor()
