"""The verbs of `Workspace`, one module for each kind. Each is a few lines; the work stands in the module of the same name."""
