"""A control plane that is killed while commands run."""
