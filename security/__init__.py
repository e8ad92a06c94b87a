"""The security service: the CA, tenants, principals, keys, tokens, roles, bindings, the policy, the records."""
