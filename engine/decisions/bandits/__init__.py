"""Contextual bandits: choices that get better with what comes of them."""
