"""Trainers that come with adaptkit."""
