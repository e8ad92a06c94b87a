"""Smaller versions of a version: made, asked the same, compared, kept."""
