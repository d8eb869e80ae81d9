"""The control plane of ninelives-grpc: one command table behind gRPC, GraphQL and MCP."""
