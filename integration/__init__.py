"""The integration service: connections to other systems, their credentials, and effects that happen once."""
