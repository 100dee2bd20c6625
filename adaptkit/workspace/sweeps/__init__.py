"""Sweeps: what a team does to many adapters every night, written down, planned, and gone on with after a kill."""
