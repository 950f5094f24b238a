"""Every message in every served version: round trip, the same bytes as kafka-python, clean errors for anything else."""

import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec_oracle import CASES, THEIRS, functions, plain, to_ours, to_theirs, values
from penstock.codec.errors import CodecError
from penstock.codec.kafka.apis import API_BY_NAME

PREFIXES_MAX = 80
MUTATIONS = 12
_INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0xFF)

_settings = settings(max_examples=6, deadline=None, derandomize=True, database=None)


def _encode(encode: Any, message: Any) -> bytes:
    out: list[Any] = []
    encode(message, out)
    return b"".join(out)


@pytest.mark.parametrize(("api_name", "role", "version"), CASES)
def test_round_trip_and_the_same_bytes_as_kafka_python(api_name: str, role: str, version: int) -> None:
    api = API_BY_NAME[api_name]
    decode, encode = functions(api, role, version)
    name = api_name + role

    @_settings
    @given(values(name, version))
    def check(tree: dict[str, Any]) -> None:
        message = to_ours(api.messages, name, tree)
        data = _encode(encode, message)
        decoded, end = decode(memoryview(data), 0)
        assert end == len(data)
        assert decoded == message
        theirs = to_theirs(name, version, tree)
        assert bytes(theirs.encode(version=version)) == data
        assert plain(THEIRS[name]._struct, version, name, decoded) == tree

    check()


@pytest.mark.parametrize(("api_name", "role", "version"), CASES)
def test_prefixes_and_mutations_raise_only_codec_errors(api_name: str, role: str, version: int) -> None:
    api = API_BY_NAME[api_name]
    decode, encode = functions(api, role, version)
    name = api_name + role

    @settings(_settings, max_examples=3)
    @given(values(name, version), st.integers(0, 2**32))
    def check(tree: dict[str, Any], seed: int) -> None:
        data = _encode(encode, to_ours(api.messages, name, tree))
        generator = random.Random(seed)
        lengths = range(len(data))
        for length in lengths if len(data) <= PREFIXES_MAX else generator.sample(lengths, PREFIXES_MAX):
            with pytest.raises(CodecError):
                decode(memoryview(data)[:length], 0)
        for _ in range(MUTATIONS if data else 0):
            damaged = bytearray(data)
            for _ in range(generator.randint(1, 3)):
                # The beginning holds the counts and lengths; records of many bytes would otherwise take all the damage.
                position = generator.randrange(min(len(damaged), 200))
                damaged[position] = generator.choice((*_INTERESTING, generator.randrange(256)))
            with suppress(CodecError):
                _, end = decode(memoryview(damaged), 0)
                assert 0 <= end <= len(damaged)

    check()


@pytest.mark.parametrize(("api_name", "role", "version"), CASES)
def test_random_bytes_raise_only_codec_errors(api_name: str, role: str, version: int) -> None:
    decode, _ = functions(API_BY_NAME[api_name], role, version)
    generator = random.Random(f"{api_name}{role}{version}")
    for _ in range(60):
        data = generator.randbytes(generator.randrange(80))
        with suppress(CodecError):
            _, end = decode(memoryview(data), 0)
            assert end <= len(data)
