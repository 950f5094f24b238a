"""Names of the operator's spans and attributes. Those without `penstock.` are OpenTelemetry's semantic conventions."""

from __future__ import annotations

from typing import Final

SERVICE: Final = "penstock-operator"
SERVICE_NAME: Final = "service.name"
SERVICE_INSTANCE: Final = "service.instance.id"
SERVICE_VERSION: Final = "service.version"
POD: Final = "k8s.pod.name"
NAMESPACE: Final = "k8s.namespace.name"
ERROR: Final = "error.type"
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
SERVER: Final = "server.address"
SERVER_PORT: Final = "server.port"

KIND: Final = "penstock.object.kind"
NAME: Final = "penstock.object.name"
GENERATION: Final = "penstock.object.generation"
TRIGGERS: Final = "penstock.pass.triggers"
TRIGGERS_UNNAMED: Final = "penstock.pass.triggers_unnamed"
OUTCOME: Final = "penstock.pass.outcome"
SENTENCE: Final = "penstock.pass.sentence"
VERB: Final = "penstock.kube.verb"
WHY: Final = "penstock.why"
REFUSED: Final = "refused"  # an event
