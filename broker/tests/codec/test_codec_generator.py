"""The generator: what schemas may hold beyond what is served today, the drift check, and its sentences."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).resolve().parents[3] / "tools"
sys.path.insert(0, str(TOOLS))

from codec_generator.command import differences  # noqa: E402
from codec_generator.kafka_schemas import jar_is_cached  # noqa: E402
from codec_generator.modules import module_text  # noqa: E402
from codec_generator.schemas import Versions, read_message, snake_case  # noqa: E402
from codec_generator.served import KAFKA_CLIENTS_VERSION, Served  # noqa: E402
from penstock.codec.errors import CodecError  # noqa: E402

# Everything that Kafka's schemas have and the served APIs do not: nullable and shared structures, lists of UUIDs, other numbers,
# tagged fields of each kind, two messages that use one name.
_FIELDS = [
    {"name": "Flag", "type": "bool", "versions": "0+"},
    {"name": "Ratio", "type": "float64", "versions": "0+", "default": "0.5"},
    {"name": "Port", "type": "uint16", "versions": "0+"},
    {"name": "Ids", "type": "[]uuid", "versions": "0+"},
    {"name": "Place", "type": "Place", "versions": "0+", "nullableVersions": "0+", "default": "null"},
    {"name": "Plain", "type": "Place", "versions": "1+"},
    {
        "name": "Label",
        "type": "string",
        "versions": "1+",
        "taggedVersions": "1+",
        "tag": 3,
        "default": "none",
    },
    {"name": "Bits", "type": "int64", "versions": "1+", "taggedVersions": "1+", "tag": 1, "default": "0x10"},
    {
        "name": "Places",
        "type": "[]Place",
        "versions": "1+",
        "taggedVersions": "1+",
        "tag": 0,
        "nullableVersions": "1+",
    },
]
_PLACE = [
    {"name": "X", "type": "int32", "versions": "0+"},
    {"name": "Name", "type": "string", "versions": "0+"},
]


def _module() -> dict[str, Any]:
    messages = []
    for role in ("Request", "Response"):
        schema = {
            "name": f"Try{role}",
            "apiKey": 500,
            "validVersions": "0-2",
            "flexibleVersions": "1+",
            "commonStructs": [{"name": "Place", "versions": "0+", "fields": _PLACE}],
            "fields": _FIELDS,
        }
        messages.append((role.lower(), read_message(schema)))
    namespace: dict[str, Any] = {"__name__": "generated_try"}
    exec(compile(module_text(Served("Try", 0, 2), messages), "generated_try", "exec"), namespace)
    return namespace


def test_kinds_of_fields_that_no_served_api_has() -> None:
    module = _module()
    place = module["TryRequestPlace"]
    full = module["TryRequest"](
        flag=True,
        ratio=-1.5,
        port=65535,
        ids=[bytes(16), b"0123456789abcdef"],
        place=place(x=-7, name="here"),
        plain=place(x=8, name="there"),
        label="tagged",
        bits=-1,
        places=[place(x=1, name="a"), place(x=2, name="b" * 200)],
    )
    bare = module["TryRequest"](place=None, plain=place(), places=None)
    for version in (0, 1, 2):
        for message in (full, bare):
            out: list[Any] = []
            module["ENCODE_REQUEST"][version](message, out)
            data = b"".join(out)
            decoded, end = module["DECODE_REQUEST"][version](memoryview(data), 0)
            assert end == len(data)
            if version:
                assert decoded == message
            else:
                assert (decoded.ids, decoded.place, decoded.port) == (
                    message.ids,
                    message.place,
                    message.port,
                )
                assert (decoded.plain, decoded.label, decoded.bits) == (None, "none", 16)
            for length in range(len(data)):
                with pytest.raises(CodecError):
                    module["DECODE_REQUEST"][version](memoryview(data)[:length], 0)


def test_equal_layouts_share_their_code() -> None:
    module = _module()
    assert module["DECODE_REQUEST"][2] is module["DECODE_REQUEST"][1]
    assert module["DECODE_REQUEST"][1] is not module["DECODE_REQUEST"][0]


def test_versions_and_names() -> None:
    assert Versions.parse("3+").maximum > 1000
    assert (Versions.parse("2-5"), Versions.parse("4")) == (Versions(2, 5), Versions(4, 4))
    assert 0 not in Versions.parse("none")
    assert [snake_case(name) for name in ("TopicId", "IsrNodes", "KIP", "ErrorCode")] == [
        "topic_id",
        "isr_nodes",
        "kip",
        "error_code",
    ]
    with pytest.raises(ValueError, match="Python keyword"):
        snake_case("From")


def test_differences_are_named(tmp_path: Path) -> None:
    (tmp_path / "same.py").write_text("1\n")
    (tmp_path / "changed.py").write_text("1\n")
    (tmp_path / "left_over.py").write_text("1\n")
    files = {"same.py": "1\n", "changed.py": "2\n", "missing.py": "3\n"}
    assert differences(files, tmp_path) == ["changed.py", "left_over.py", "missing.py"]


def _check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "generate-kafka-codec"), "--check"]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_the_sentence_where_maven_is_missing(tmp_path: Path) -> None:
    done = _check({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"Maven is needed to fetch kafka-clients {KAFKA_CLIENTS_VERSION}: install it"
    )


def test_the_sentence_where_the_jar_is_damaged(tmp_path: Path) -> None:
    folder = tmp_path / "penstock"
    folder.mkdir()
    (folder / f"kafka-clients-{KAFKA_CLIENTS_VERSION}.jar").write_bytes(b"no jar")
    done = _check({"XDG_CACHE_HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "delete it and run this again" in done.stderr


@pytest.mark.skipif(
    not jar_is_cached(KAFKA_CLIENTS_VERSION), reason="needs the jar that tools/generate-kafka-codec fetches"
)
def test_the_committed_code_is_what_the_generator_writes() -> None:
    done = _check({})
    assert done.returncode == 0, done.stderr
