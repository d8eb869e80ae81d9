"""How stacks hook into gRPC: channels and servers, sync and asyncio."""
