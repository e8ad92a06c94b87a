"""The Open Inference Protocol beside its transports: REST bodies, shared memory, the repository as it asks for it."""
