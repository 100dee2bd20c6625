"""Work that runs on an executor: tasks are data, and only the driver writes the registry."""
