"""From messages to the engine's core and back, one file a proto service."""
