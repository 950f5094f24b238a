"""ApiVersions: which APIs and versions are served (KIP-35, KIP-511).

An ApiVersions version that is not served is answered in version 0 with UNSUPPORTED_VERSION and the range that is, so
that the client can ask again. No feature is advertised: clients change to newer transaction protocols on what they see.
"""

from __future__ import annotations

from penstock.codec.kafka.apis import API_VERSIONS_KEY, APIS
from penstock.codec.kafka.generated.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from penstock.listeners.kafka.errors import Refusal
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode


def _advertised(keys: list[int]) -> list[ApiVersion]:
    return [
        ApiVersion(api_key=key, min_version=APIS[key].minimum, max_version=APIS[key].maximum) for key in keys
    ]


_ALL = _advertised(list(APIS))


def api_versions(call: Call, request: ApiVersionsRequest) -> ApiVersionsResponse:
    """Everything that is served."""
    return ApiVersionsResponse(api_keys=_ALL)


def unsupported_api_versions() -> ApiVersionsResponse:
    """What a client that asked in an unknown version gets, to be written in version 0."""
    return ApiVersionsResponse(
        error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=_advertised([API_VERSIONS_KEY])
    )


def refuse_api_versions(request: ApiVersionsRequest, version: int, refusal: Refusal) -> ApiVersionsResponse:
    """An error as a whole."""
    return ApiVersionsResponse(error_code=refusal.code)
