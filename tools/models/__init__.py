"""The models that ship with the platform, each prepared when a machine is set up; no service imports this."""
