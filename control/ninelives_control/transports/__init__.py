"""The ways by which commands come: each only maps bytes to a command and its answer to bytes."""
