"""Connectors: one file a kind of system."""
