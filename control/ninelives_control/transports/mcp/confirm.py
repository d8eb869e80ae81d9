"""Ask the person behind an MCP client before something is done that can not be undone."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
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

from ninelives_control.audit.canonical import canonical
from ninelives_control.errors import shortened

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext
    from mcp_types import CallToolRequestParams

_KEY = "confirm"
_LONGEST = 500
_MOST_ASKED = 1000
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {_KEY: {"type": "boolean", "title": "Do it; it can not be undone"}},
    "required": [_KEY],
}


class DeclinedError(Exception):
    """A person does not agree.

    Attributes:
        answer: What came back: decline, cancel, or accept without a yes.
    """

    def __init__(self, answer: str) -> None:
        """Hold the answer."""
        super().__init__(answer)
        self.answer = answer


class Confirmations:
    """Asks for each call, and takes each answer once.

    The state that newer clients send back is sealed, and bound to the call and the caller, by the
    `RequestStateBoundary` of the server, which also sees that it comes in time.
    """

    def __init__(self) -> None:
        """Begin with nothing asked."""
        # The oldest first. One that is forgotten is asked for again.
        self._asked: dict[str, None] = {}

    async def ask(
        self, context: ServerRequestContext[Any, Any], params: CallToolRequestParams
    ) -> InputRequiredResult | None:
        """Return None once a person has agreed to a call; before, what a client is asked for.

        Raises:
            DeclinedError: The person does not agree.
            MCPError: The client can not ask anybody, or the answer has been used before.
        """
        _require_form(context)
        message = f"{params.name} can not be undone. Arguments: {canonical(params.arguments or {})}"
        message = shortened(message, _LONGEST)
        answer: object
        if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
            answer = self._answer(params)
            if not isinstance(answer, ElicitResult):
                form = ElicitRequestFormParams(message=message, requested_schema=_FORM)
                return InputRequiredResult(
                    input_requests={_KEY: ElicitRequest(params=form)}, request_state=self._state()
                )
        else:
            answer = await context.session.elicit_form(message, _FORM, context.request_id)
        if answer.action == "accept" and (answer.content or {}).get(_KEY) is True:
            return None
        raise DeclinedError(answer.action)

    def _state(self) -> str:
        state = secrets.token_hex(16)
        self._asked[state] = None
        if len(self._asked) > _MOST_ASKED:
            del self._asked[next(iter(self._asked))]
        return state

    def _answer(self, params: CallToolRequestParams) -> object:
        if params.request_state is None:
            return None
        if params.request_state not in self._asked:
            message = "this confirmation has been used, or is too old; call the tool again"
            raise MCPError(INVALID_PARAMS, message)
        del self._asked[params.request_state]
        return (params.input_responses or {}).get(_KEY)


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
