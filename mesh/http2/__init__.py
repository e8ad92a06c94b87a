"""HTTP/2 and gRPC on it, as a service's own port speaks them.

`headers`, `sending` and `connection` know the protocol and no sockets; `calls` makes gRPC calls of streams;
`server` has the sockets, `tls` their certificates, `memory` the bound on what is kept for peers.
"""
