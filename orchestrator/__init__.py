"""The orchestrator service: agents, their revisions, and the runs they make, on a journal that no crash loses."""
