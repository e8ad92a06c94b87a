"""From messages to the orchestrator's core and back, one file a proto service."""
