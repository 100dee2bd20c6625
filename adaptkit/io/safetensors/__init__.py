"""Safetensors files: checked when read, streamed when written."""
