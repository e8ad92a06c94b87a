"""The stages that every call passes, in this order: trace, metrics, record, errors, deadline, identity, access,
validation. `mesh.interceptor` calls them; each does one thing and knows no other.
"""
