"""The `tiation` command, the supervisor that runs a platform on one machine, and the front proxy's configuration."""
