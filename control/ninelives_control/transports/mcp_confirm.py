"""Ask the person behind an MCP client before something is done that can not be undone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    ClientCapabilities,
    ElicitationCapability,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    FormElicitationCapability,
    InputRequiredResult,
    MissingRequiredClientCapabilityErrorData,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from ninelives_control.canonical import canonical
from ninelives_control.errors import Code, CommandError, shortened

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import CallToolRequestParams

_KEY = "confirm"
_ASKED = "asked"
_LONGEST = 500
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {_KEY: {"type": "boolean", "title": "Do it; it can not be undone"}},
    "required": [_KEY],
}


async def unconfirmed(
    context: ServerRequestContext[Any, Any], params: CallToolRequestParams
) -> InputRequiredResult | None:
    """Return None once a person has agreed to a call; before, what a client is asked for.

    The state that newer clients send back is sealed, and bound to the call and the caller, by the
    `RequestStateBoundary` of the server: an answer without it was not asked for.

    Raises:
        CommandError: `permission_denied`: the person does not agree.
        MCPError: The client can not ask anybody.
    """
    _require_form(context)
    message = f"{params.name} can not be undone. Arguments: {canonical(params.arguments or {})}"
    message = shortened(message, _LONGEST)
    if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
        answer = (params.input_responses or {}).get(_KEY)
        if params.request_state != _ASKED or not isinstance(answer, ElicitResult):
            form = ElicitRequestFormParams(message=message, requested_schema=_FORM)
            return InputRequiredResult(
                input_requests={_KEY: ElicitRequest(params=form)}, request_state=_ASKED
            )
    else:
        answer = await context.session.elicit_form(message, _FORM, context.request_id)
    if answer.action == "accept" and (answer.content or {}).get(_KEY) is True:
        return None
    message = f"{params.name} was not confirmed ({answer.action}), so it did not run"
    raise CommandError(Code.PERMISSION_DENIED, message)


def _require_form(context: ServerRequestContext[Any, Any]) -> None:
    capabilities = context.session.client_capabilities
    able = capabilities.elicitation if capabilities is not None else None
    # Before there were several modes, an empty capability meant forms.
    if able is not None and (able.form is not None or able.url is None):
        return
    form = ElicitationCapability(form=FormElicitationCapability())
    data = MissingRequiredClientCapabilityErrorData(
        required_capabilities=ClientCapabilities(elicitation=form)
    )
    raise MCPError(
        MISSING_REQUIRED_CLIENT_CAPABILITY,
        "this can not be undone and has to be confirmed, which the client can not ask for",
        data.model_dump(by_alias=True, mode="json", exclude_none=True),
    )
