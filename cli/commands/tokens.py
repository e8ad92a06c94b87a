"""`token`: an access token for the operator's key."""

from __future__ import annotations

import click
from tiation.security.v1 import token_pb2, token_pb2_grpc

from cli.client import TIMEOUT_S, connect
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, print_json

__all__ = ["token"]


@click.command()
@tenant_option
@click.option("--role", default="", help="Only what this role allows, for example `viewer`.")
@click.option("--ttl", type=click.IntRange(1, 3600), default=900, show_default=True, help="Seconds that it lasts.")
@home_option
@output_option
def token(home: Home, tenant: str, role: str, ttl: int, output: str) -> None:
    """Print an access token, to be sent as `Authorization: Bearer …`.

    \b
    Example:
      curl --cacert .tiation/ca.pem \\
        -H "Authorization: Bearer $(tiation token)" https://127.0.0.1:8443/v1/tenants/default/agents
    """  # noqa: D301 -- \b is click's
    home.gateway()  # no platform is the first thing to say
    request = token_pb2.ExchangeApiKeyRequest(
        parent=f"tenants/{tenant}",
        api_key=home.key(),
        role=role,
    )
    request.ttl.FromSeconds(ttl)
    with connect(home, token_pb2_grpc.TokenServiceStub, token="") as stub:
        answer = stub.ExchangeApiKey(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
    else:
        click.echo(answer.token)
