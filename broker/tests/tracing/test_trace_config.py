"""What may be configured of tracing, what is refused with a sentence, and whose spans they are."""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import pytest
import yaml

from penstock.config.broker_config import BrokerConfig, ConfigError, load_config
from penstock.config.broker_options import BROKER_OPTIONS
from penstock.config.options import OptionError
from penstock.config.topic_options import TOPIC_OPTIONS
from penstock.process.assembly import Broker
from penstock.process.tracing import make_exporter, resource
from penstock.runtime.data_folder import FORMAT, Meta
from penstock.service.api import ConfigOperation
from penstock.telemetry.counters import Counters
from penstock.testing.otlp_receiver import OtlpReceiver
from penstock.testing.simulated_shard import CONTEXT
from penstock.tracing import attributes as names
from penstock.tracing.span import Attribute, Kind, Span
from trace_scene import TraceScene

META = Meta(FORMAT, "cluster", 0, uuid.UUID(int=1), uuid.UUID(int=2), 1)
ENDPOINT = "http://127.0.0.1:4318"


def config(folder: Path, **values: object) -> BrokerConfig:
    file = folder / "broker.yaml"
    file.write_text(yaml.safe_dump({name.replace("_", "."): value for name, value in values.items()}))
    return load_config(folder / "data", config_file=file, listen=["admin=127.0.0.1:0"])


@pytest.mark.parametrize(
    "endpoint", [ENDPOINT, "https://collector.example/otlp", "http://[::1]:4318", "http://collector"]
)
def test_an_endpoint_is_a_base_url(tmp_path: Path, endpoint: str) -> None:
    assert config(tmp_path, tracing_endpoint=endpoint).text("tracing.endpoint") == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "collector:4318",
        "grpc://collector",
        "http://",
        "http://c:x",
        "http://[",
        "http://a?b=c",
        "http://u:p@c",
        "x",
    ],
)
def test_anything_else_is_refused_with_a_sentence(tmp_path: Path, endpoint: str) -> None:
    with pytest.raises(ConfigError, match="base URL"):
        config(tmp_path, tracing_endpoint=endpoint)


@pytest.mark.parametrize("ratio", ["-0.1", "1.1", "nan", "inf", "", "half"])
def test_a_ratio_is_a_number_from_0_to_1(ratio: str) -> None:
    for option in (BROKER_OPTIONS["tracing.sampling"], TOPIC_OPTIONS["penstock.tracing.sampling"]):
        assert [option.parse(text) for text in ("0", "0.5", "1")] == [0.0, 0.5, 1.0]
        with pytest.raises(OptionError, match=r"sampling must be"):
            option.parse(ratio)


async def test_a_topics_ratio_is_its_own_or_the_clusters() -> None:
    scene = await TraceScene.make(topic={})
    settings, topics = scene.shard.settings, scene.shard.topics

    async def cluster(ratio: str) -> None:
        change = ConfigOperation("tracing.sampling", "set", ratio)
        await scene.shard.wait(topics.alter_broker_config(CONTEXT, [change]))

    # The scene's topic sets 0, and others set nothing.
    await cluster("0.5")
    assert settings.topic("orders").trace_bound == 0
    assert settings.topic("another").trace_bound == 1 << 63
    own = ConfigOperation("penstock.tracing.sampling", "delete", None)
    await scene.shard.wait(topics.alter_topic_config(CONTEXT, "orders", [own]))
    assert settings.topic("orders").trace_bound == 1 << 63
    assert settings.topic("orders").traced


def test_the_resource_names_cluster_shard_broker_and_pod(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POD_NAME", raising=False)
    named = config(tmp_path, cluster_name="shop")
    told = resource(named, META)
    assert told["service.instance.id"] == "shop-0-1"
    assert (told["service.namespace"], told["penstock.cluster"], told["penstock.shard"]) == (
        "shop",
        "shop",
        0,
    )
    assert "k8s.pod.name" not in told
    monkeypatch.setenv("POD_NAME", "shop-0-1-pod")
    assert resource(named, META)["k8s.pod.name"] == "shop-0-1-pod"
    assert resource(config(tmp_path, pod_name="other"), META)["k8s.pod.name"] == "other"


def test_without_an_endpoint_there_is_nothing(tmp_path: Path) -> None:
    assert make_exporter(config(tmp_path), META, Counters()) is None


def test_a_missing_library_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "penstock.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(OSError, match=r"install penstock\[otel\]"):
        make_exporter(config(tmp_path, tracing_endpoint=ENDPOINT), META, Counters())


async def test_headers_that_cannot_be_used_are_told_and_keep_no_broker_down(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    missing = config(tmp_path, tracing_endpoint=ENDPOINT, tracing_headers_file=str(tmp_path / "none"))
    exporter = make_exporter(missing, META, Counters())
    assert exporter is not None
    (said,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "no spans are sent until tracing.headers.file can be read" in said
    assert "none cannot be read" in said
    exporter.start()
    await exporter.close()


async def test_a_broker_that_traces_nothing_has_no_tracing(tmp_path: Path) -> None:
    def fail(error: BaseException) -> None:
        raise AssertionError("the broker's log failed") from error

    off = Broker(config(tmp_path), fail)
    await off.start()
    assert (off.data.tracing, off.groups.tracing) == (None, None)
    await off.stop()
    on = Broker(config(tmp_path, tracing_endpoint=ENDPOINT), fail)
    await on.start()
    assert on.data.tracing is not None
    assert on.groups.tracing is on.data.tracing.reading
    await on.stop()


@pytest.mark.parametrize("collected", [False, True])
async def test_events_are_kept_with_and_without_a_collector_and_each_takes_its_own(
    tmp_path: Path, collected: bool
) -> None:
    def fail(error: BaseException) -> None:
        raise AssertionError("the broker's log failed") from error

    async with OtlpReceiver() as receiver:
        endpoint = receiver.endpoint if collected else ""
        broker = Broker(config(tmp_path, tracing_endpoint=endpoint, tracing_topic_enabled=True), fail)
        await broker.start()
        assert broker.data.tracing is not None
        assert (broker.traces.kept, broker.traces.collector) == (True, endpoint)
        said: dict[str, Attribute] = {
            names.MESSAGING_OPERATION_NAME: names.DELIVER,
            names.MESSAGING_DESTINATION_NAME: "orders",
            names.MESSAGING_DESTINATION_PARTITION_ID: "0",
        }
        broker.data.tracing.end(Span("deliver orders", Kind.SERVER, 5, 6, 0, 1, said))
        found = await broker.traces.find(CONTEXT, 5, None)
        assert [record.what for record in found.records] == ["deliver"]
        await broker.stop()
        assert [span.name for span in receiver.spans] == ["deliver orders"] * collected
    assert broker.counters.tracing.topic_written == 1
