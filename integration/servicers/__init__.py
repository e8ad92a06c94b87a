"""From messages to integration's core and back, one file a proto service."""
