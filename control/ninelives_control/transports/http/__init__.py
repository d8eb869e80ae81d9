"""The HTTP server that REST, GraphQL, MCP and metrics share."""
