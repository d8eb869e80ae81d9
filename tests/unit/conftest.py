import asyncio

import pytest


def call_sync(stack, function):
    return stack.call(function)


def call_aio(stack, function):
    async def work():
        result = function()
        # A timeout that ran out meanwhile is felt where the task next gives way.
        await asyncio.sleep(0)
        return result

    return asyncio.run(stack.acall(work))


@pytest.fixture(params=[call_sync, call_aio], ids=["sync", "aio"])
def call(request):
    """Calls a plain function under a stack, once by each driver."""
    return request.param
