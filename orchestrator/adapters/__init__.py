"""The services that flows call, over gRPC."""
