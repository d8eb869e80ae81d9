"""Resilience for gRPC in Python: policies, composed into stacks, on channels, servers, functions."""
