"""Backups of a whole home: consistent while the platform runs, checked, encrypted with age."""
