"""What runs inside a sandboxed child process: jq programs, decision graphs and images of tenants.

The side that starts these processes is `mesh.sandbox`. Nothing here may import more than the standard library and the
one engine that the process was started for: every idle worker pays for it in memory.
"""
