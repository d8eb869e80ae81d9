"""The gRPC integration over real gRPC on loopback."""
