"""Small, pure data structures that policies and observers share."""
