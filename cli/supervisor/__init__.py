"""The supervisor: starts a platform's processes on one machine, keeps them running, stops them in order."""
