"""Microseconds per message of the Kafka codec's hot paths: `python bench/codec_speed.py`.

Each number is the best of several runs, which is what the code costs when nothing else uses the core. The aims are those of a plain
Python prototype on the machine the design was measured on; 10x10 is ten topics of ten partitions.
"""

import sys
import timeit
from collections.abc import Callable
from typing import Any

from penstock.codec.kafka.generated import fetch, produce

RUNS = 7
SECONDS_PER_RUN = 0.1


def encoded(encode: Callable[[Any, list[Any]], None], message: Any) -> memoryview:
    """The bytes of a message, as they would lie in a frame."""
    out: list[Any] = []
    encode(message, out)
    return memoryview(b"".join(out))


def produce_request(topics: int, partitions: int, records_bytes: int) -> memoryview:
    """A produce request of version 9."""
    records = memoryview(bytes(records_bytes))
    topic_data = [
        produce.TopicProduceData(
            name=f"topic-{topic}",
            partition_data=[
                produce.PartitionProduceData(index=index, records=records) for index in range(partitions)
            ],
        )
        for topic in range(topics)
    ]
    return encoded(
        produce.encode_produce_request_v9,
        produce.ProduceRequest(acks=-1, timeout_ms=30_000, topic_data=topic_data),
    )


def fetch_request() -> memoryview:
    """A fetch request of version 12 for one partition."""
    partition = fetch.FetchPartition(partition=0, fetch_offset=1000, partition_max_bytes=1 << 20)
    topic = fetch.FetchTopic(topic="topic-0", partitions=[partition])
    return encoded(
        fetch.encode_fetch_request_v12, fetch.FetchRequest(max_wait_ms=500, min_bytes=1, topics=[topic])
    )


def answer_produce() -> list[Any]:
    """Build and encode a produce response of version 9 for one partition."""
    partition = produce.PartitionProduceResponse(index=0, base_offset=1000)
    topic = produce.TopicProduceResponse(name="topic-0", partition_responses=[partition])
    out: list[Any] = []
    produce.encode_produce_response_v9(produce.ProduceResponse(responses=[topic]), out)
    return out


def answer_fetch(topics: int, partitions: int, records: memoryview) -> list[Any]:
    """Build and encode a fetch response of version 12."""
    responses = [
        fetch.FetchableTopicResponse(
            topic="topic-0",
            partitions=[
                fetch.PartitionData(
                    partition_index=index,
                    high_watermark=1000,
                    last_stable_offset=1000,
                    aborted_transactions=None,
                    records=records,
                )
                for index in range(partitions)
            ],
        )
        for _ in range(topics)
    ]
    out: list[Any] = []
    fetch.encode_fetch_response_v12(fetch.FetchResponse(responses=responses), out)
    return out


def microseconds(action: Callable[[], Any]) -> float:
    """The best time of one call."""
    timer = timeit.Timer(action)
    number = max(1, int(SECONDS_PER_RUN / (timer.timeit(20) / 20)))
    return min(timer.repeat(RUNS, number)) / number * 1e6


def main() -> int:
    """Print one line per case."""
    small, large = produce_request(1, 1, 16384), produce_request(10, 10, 1024)
    wanted = fetch_request()
    records_16k, records_1k = memoryview(bytes(16384)), memoryview(bytes(1024))
    cases: list[tuple[str, float, Callable[[], Any]]] = [
        ("ProduceRequest v9 decode 1x1", 3.5, lambda: produce.decode_produce_request_v9(small, 0)),
        ("ProduceRequest v9 decode 10x10", 105, lambda: produce.decode_produce_request_v9(large, 0)),
        ("ProduceResponse v9 build and encode 1x1", 0.7, answer_produce),
        ("FetchRequest v12 decode 1x1", 2, lambda: fetch.decode_fetch_request_v12(wanted, 0)),
        ("FetchResponse v12 build and encode 1x1", 2.5, lambda: answer_fetch(1, 1, records_16k)),
        ("FetchResponse v12 build and encode 10x10", 169, lambda: answer_fetch(10, 10, records_1k)),
    ]
    for name, aim, action in cases:
        print(f"{name:<42} {microseconds(action):8.2f} us   (aim {aim:g})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
