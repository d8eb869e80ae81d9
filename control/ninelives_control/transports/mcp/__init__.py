"""Commands as MCP tools, and state as resources."""
