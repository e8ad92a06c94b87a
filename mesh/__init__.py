"""What every service stands on: server, channels, records, settings, database, sandbox.

It knows no service; services import it and never each other.
"""
