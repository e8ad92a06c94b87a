"""Decisions: graphs that say what to do, and how their versions are kept."""
