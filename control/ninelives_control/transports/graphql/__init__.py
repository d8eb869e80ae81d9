"""Commands as GraphQL fields."""
