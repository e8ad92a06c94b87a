"""What the engine stands on besides its runtime."""
