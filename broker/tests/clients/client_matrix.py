"""The clients, as parameters of scenarios, and the marks by which `tools/compatibility-table` finds them.

A scenario is a test with `@scenario("words for the table")`, parametrised over clients by one of the functions here;
the client's name is the first part of the parameter's id. Clients that lack something are left out of the parameters
instead of being skipped, so that a skipped test always means a missing program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from admin_aiokafka import AiokafkaAdmin
from admin_confluent import ConfluentAdmin
from admin_java import JavaAdmin
from admin_kafka_python import KafkaPythonAdmin
from driver_aiokafka import AiokafkaDriver
from driver_confluent import ConfluentDriver
from driver_java import JavaDriver
from driver_kafka_python import KafkaPythonDriver
from driver_kcat import KcatDriver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from client_driver import Admin, Driver

DRIVERS: tuple[Driver, ...] = (
    ConfluentDriver(),
    KafkaPythonDriver(),
    AiokafkaDriver(),
    JavaDriver(),
    KcatDriver(),
)
ADMINS: tuple[Admin, ...] = (ConfluentAdmin(), KafkaPythonAdmin(), AiokafkaAdmin(), JavaAdmin())
COOPERATIVE = frozenset({"confluent-kafka", "kafka-python", JavaDriver.name, "kcat"})
_PROGRAM_MARKS = {JavaDriver.name: pytest.mark.java, KcatDriver.name: pytest.mark.kcat}


def scenario(words: str) -> Callable[[Any], Any]:
    """Marks a test as a line of the compatibility table."""

    def mark(test: Any) -> Any:
        return pytest.mark.clients(pytest.mark.scenario(words)(test))

    return mark


def every_client() -> pytest.MarkDecorator:
    """Parametrises `driver` over all clients."""
    return pytest.mark.parametrize("driver", [_param(one, one) for one in DRIVERS])


def every_client_and_codec() -> pytest.MarkDecorator:
    """Parametrises `driver` and `codec` over all clients and the codecs each has."""
    return pytest.mark.parametrize(
        ("driver", "codec"),
        [_param(one, one, codec, variant=codec) for one in DRIVERS for codec in one.codecs],
    )


def every_client_and_protocol() -> pytest.MarkDecorator:
    """Parametrises `driver` and `cooperative` over all clients and the rebalance protocols each has."""
    return pytest.mark.parametrize(
        ("driver", "cooperative"),
        [
            _param(one, one, cooperative, variant="cooperative" if cooperative else "eager")
            for one in DRIVERS
            for cooperative in (False, True)
            if not cooperative or one.name in COOPERATIVE
        ],
    )


def every_admin(*calls: str) -> pytest.MarkDecorator:
    """Parametrises `admin` over the clients that have all of `calls`."""
    return pytest.mark.parametrize(
        "admin", [_param(one, one) for one in ADMINS if one.calls.issuperset(calls)]
    )


def versions() -> Mapping[str, str]:
    """Versions of all clients by name."""
    clients: Iterable[Driver | Admin] = (*DRIVERS, *ADMINS)
    return {client.name: client.version for client in clients}


def _param(client: Driver | Admin, *values: object, variant: str = "") -> Any:
    marks = [_PROGRAM_MARKS[client.name]] if client.name in _PROGRAM_MARKS else []
    name = client.name.replace(" ", "_")
    return pytest.param(*values, id=f"{name}/{variant}" if variant else name, marks=marks)
