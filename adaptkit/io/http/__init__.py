"""HTTP: one client, its limits, and the variables of the environment that it obeys."""
