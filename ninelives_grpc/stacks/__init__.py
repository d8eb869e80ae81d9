"""Policies put together: the algebra, the plan it compiles to, and what drives calls through."""
