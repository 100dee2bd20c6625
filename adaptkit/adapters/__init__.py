"""One adapter directory: opened, checked, described, written."""
