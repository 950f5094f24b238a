"""Administration of groups: DescribeGroups, ListGroups, DeleteGroups."""

from __future__ import annotations

from penstock.codec.kafka.generated.delete_groups import (
    DeletableGroupResult,
    DeleteGroupsRequest,
    DeleteGroupsResponse,
)
from penstock.codec.kafka.generated.describe_groups import (
    DescribedGroup,
    DescribedGroupMember,
    DescribeGroupsRequest,
    DescribeGroupsResponse,
)
from penstock.codec.kafka.generated.list_groups import ListedGroup, ListGroupsRequest, ListGroupsResponse
from penstock.listeners.kafka.errors import Refusal
from penstock.listeners.kafka.handlers.endpoint import GROUP_OPERATIONS, OPERATIONS_NOT_ASKED
from penstock.listeners.kafka.services import Call
from penstock.model.errors import ErrorCode, PenstockError

# Every group speaks the classic protocol; KIP-848 and KIP-932 know others.
GROUP_TYPE = "classic"


async def describe_groups(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse:
    """State and members of groups. A group that nobody knows is Dead, as in Kafka."""
    found = await call.services.groups.describe(call.context, request.groups)
    asked = request.include_authorized_operations
    return DescribeGroupsResponse(
        groups=[
            DescribedGroup(
                error_code=group.error,
                group_id=group.group,
                group_state=group.state,
                protocol_type=group.protocol_type,
                protocol_data=group.protocol,
                members=[
                    DescribedGroupMember(
                        member_id=member.member_id,
                        group_instance_id=member.instance_id,
                        client_id=member.client_id,
                        client_host=member.client_host,
                        member_metadata=member.metadata,
                        member_assignment=member.assignment,
                    )
                    for member in group.members
                ],
                authorized_operations=GROUP_OPERATIONS if asked and not group.error else OPERATIONS_NOT_ASKED,
            )
            for group in found
        ]
    )


def refuse_describe_groups(
    request: DescribeGroupsRequest, version: int, refusal: Refusal
) -> DescribeGroupsResponse:
    """The error for every group."""
    return DescribeGroupsResponse(
        groups=[DescribedGroup(error_code=refusal.code, group_id=group) for group in request.groups]
    )


async def list_groups(call: Call, request: ListGroupsRequest) -> ListGroupsResponse:
    """All groups, or those in some states (KIP-518) or of some types (KIP-848). Clients ask every broker for the groups
    that it coordinates, and those that coordinate none have none."""
    try:
        found = await call.services.groups.list_groups(
            call.context, request.states_filter, request.types_filter
        )
    except PenstockError as error:
        if error.code is not ErrorCode.NOT_COORDINATOR:
            raise
        found = []
    return ListGroupsResponse(
        groups=[
            ListedGroup(
                group_id=group.group,
                protocol_type=group.protocol_type,
                group_state=group.state,
                group_type=GROUP_TYPE,
            )
            for group in found
        ]
    )


def refuse_list_groups(request: ListGroupsRequest, version: int, refusal: Refusal) -> ListGroupsResponse:
    """An error as a whole."""
    return ListGroupsResponse(error_code=refusal.code)


async def delete_groups(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse:
    """Deletes groups without members."""
    outcomes = await call.services.groups.delete_groups(call.context, request.groups_names)
    return DeleteGroupsResponse(
        results=[DeletableGroupResult(group_id=group, error_code=code) for group, code in outcomes]
    )


def refuse_delete_groups(
    request: DeleteGroupsRequest, version: int, refusal: Refusal
) -> DeleteGroupsResponse:
    """The error for every group."""
    return DeleteGroupsResponse(
        results=[
            DeletableGroupResult(group_id=group, error_code=refusal.code) for group in request.groups_names
        ]
    )
