"""From messages to security's core and back, one file a proto service."""
