"""Serving on the context: plans, servers, first use of a remote, and the gateway before other engines."""
