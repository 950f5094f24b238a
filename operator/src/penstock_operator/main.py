"""`penstock-operator`: the command line of the operator."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import socket
import sys
import uuid
from pathlib import Path
from typing import Final

import click

from penstock_operator.logs import set_up_logging
from penstock_operator.settings import OperatorSettings, TracingSettings

logger = logging.getLogger(__name__)

EXIT_CANNOT_START: Final = 2
SERVICE_ACCOUNT_NAMESPACE: Final = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"


def _own_namespace() -> str:
    """The pod's namespace; outside Kubernetes `default`."""
    path = Path(SERVICE_ACCOUNT_NAMESPACE)
    return path.read_text().strip() if path.is_file() else "default"


def _checked_endpoint(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A URL that an exporter can use, where there is one to use it."""
    if not value:
        return None
    if not value.startswith(("http://", "https://")):
        raise click.BadParameter(f"{value} is no http or https URL: write one, such as http://collector:4318")
    if importlib.util.find_spec("opentelemetry") is None:
        raise click.BadParameter("tracing needs OpenTelemetry: install penstock[operator,otel]")
    return value


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    envvar="PENSTOCK_NAMESPACES",
    help="Namespace to watch; may be repeated (in the variable: separated by spaces). Default: all.",
)
@click.option(
    "--image",
    required=True,
    envvar="PENSTOCK_IMAGE",
    help="Image of brokers whose MessageCluster names none: this release's.",
)
@click.option(
    "--own-namespace",
    envvar="PENSTOCK_OWN_NAMESPACE",
    help="Namespace of the Lease. Default: the pod's own, outside Kubernetes `default`.",
)
@click.option(
    "--lease-name",
    default="penstock-operator",
    show_default=True,
    envvar="PENSTOCK_LEASE_NAME",
    help="Lease that elects one of several operators.",
)
@click.option(
    "--resync-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(1, 3600),
    envvar="PENSTOCK_RESYNC_SECONDS",
    help="How often clusters and topics are compared with the brokers without being told to.",
)
@click.option("--health-host", default="0.0.0.0", show_default=True, envvar="PENSTOCK_HEALTH_HOST")
@click.option(
    "--health-port",
    default=8082,
    show_default=True,
    type=click.IntRange(0, 65535),
    envvar="PENSTOCK_HEALTH_PORT",
    help="Port of /healthz, /readyz and /metrics.",
)
@click.option(
    "--tracing-endpoint",
    envvar=["PENSTOCK_TRACING_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    callback=_checked_endpoint,
    help="Send the operator's own traces to this collector, by OTLP over HTTP, such as http://collector:4318. Default: none.",
)
@click.option(
    "--tracing-sampling",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    envvar="PENSTOCK_TRACING_SAMPLING",
    help="Share of the passes that are traced where no annotation traceparent decides.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"]),
    default="json",
    show_default=True,
    envvar="PENSTOCK_LOG_FORMAT",
)
@click.option("--verbose", is_flag=True, envvar="PENSTOCK_VERBOSE", help="Log more.")
def main(
    namespaces: tuple[str, ...],
    image: str,
    own_namespace: str | None,
    lease_name: str,
    resync_seconds: float,
    health_host: str,
    health_port: int,
    tracing_endpoint: str | None,
    tracing_sampling: float,
    log_format: str,
    verbose: bool,
) -> None:
    """Reconcile MessageClusters, Topics and ConsumerGroups until stopped.

    Finds the Kubernetes API as a pod does, or by KUBECONFIG. Exit codes: 0 stopped, 1 the Lease was lost (start
    again), 2 it could not start.
    """
    set_up_logging(as_json=log_format == "json", level=logging.DEBUG if verbose else logging.INFO)
    settings = OperatorSettings(
        namespaces=sorted(set(namespaces)),
        image=image,
        own_namespace=own_namespace or _own_namespace(),
        lease_name=lease_name,
        identity=f"{os.environ.get('POD_NAME') or socket.gethostname()}_{uuid.uuid4()}",
        resync_s=resync_seconds,
        health_host=health_host,
        health_port=health_port,
        pod_name=os.environ.get("POD_NAME", ""),
        tracing=TracingSettings(endpoint=tracing_endpoint, sampling=tracing_sampling)
        if tracing_endpoint
        else None,
    )
    # Imported late: --help need not wait for kopf and the Kubernetes client.
    from penstock_operator.kube_errors import KubeError
    from penstock_operator.run import run_operator

    try:
        code = asyncio.run(run_operator(settings))
    except KubeError as error:
        logger.error("cannot start", extra={"why": str(error)})
        code = EXIT_CANNOT_START
    sys.exit(code)


if __name__ == "__main__":
    main()
