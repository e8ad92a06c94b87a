"""OpenAI's interface: what its requests ask for and how its answers read. Transports live in `engine.servicers`."""
