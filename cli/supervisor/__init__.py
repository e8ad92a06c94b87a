"""The supervisor: starts a platform's processes on one machine, keeps them running, stops them in order."""

from cli.supervisor.supervisor import Supervisor

__all__ = ["Supervisor"]
