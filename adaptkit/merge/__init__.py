"""Several adapters into one."""
