"""What the chain costs: one unary call as a bare echo, straight to a service, through Envoy as gRPC and as REST.

The client is h2load where the port takes it (the echo and Envoy). A service's own port wants a client certificate,
which h2load cannot show, so the direct row has a grpc.aio client; the echo and Envoy have one too, to compare like with
like.
The call is the inference protocol's ModelReady: the full chain (identity, access, validation, record), next to nothing
behind it. It has no REST path, so REST is compared with gRPC on RoleService.GetRole, which reads the database once.
What the servicer itself took, its read above all, is taken from the records of those very calls; the rest is the
chain's and Envoy's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc.aio
from google.protobuf.wrappers_pb2 import BytesValue
from inference import grpc_service_pb2, grpc_service_pb2_grpc
from tiation.security.v1 import role_pb2, role_pb2_grpc

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure import quantile, write_results
from mesh.config import Settings
from security.app import issue_svid
from tests.fakes.installed import Installed, installed
from tests.fakes.ports import free_ports

MODEL = "all-minilm-l6-v2"
ROLE = "tenants/system/roles/viewer"
CALLS = 2000
LEAST_RECORDS = 500
H2LOAD = re.compile(r"time for request:\s+(\S+)\s+(\S+)\s+(\S+)")

ECHO = """
import asyncio, sys
import grpc, uvloop

async def main():
    server = grpc.aio.server()
    async def echo(request, context):
        return request
    handler = grpc.method_handlers_generic_handler("echo.Echo", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()

uvloop.run(main())
"""


async def timed(call, count: int) -> list[float]:
    """Milliseconds of calls one after the other."""
    for _ in range(100):
        await call()
    found = []
    for _ in range(count):
        began = time.perf_counter()
        await call()
        found.append((time.perf_counter() - began) * 1000)
    return found


def h2load(folder: Path, url: str, body: bytes | None, headers: dict[str, str], *, clients: int) -> dict[str, float]:
    """Requests per second and the mean and largest request, milliseconds, with `clients` connections of one stream."""
    command = ["h2load", "-n", str(CALLS), "-c", str(clients), "-m", "1"]
    for name, value in headers.items():
        command += ["-H", f"{name}: {value}"]
    if body is not None:
        data = folder / "body"
        data.write_bytes(body)
        command += ["-d", str(data)]
    logs = folder / "requests.log"
    shown = subprocess.run([*command, f"--log-file={logs}", url], capture_output=True, text=True, check=True).stdout
    lines = [line.split("\t") for line in logs.read_text().splitlines()]
    logs.unlink()
    good = [int(fields[2]) / 1000 for fields in lines if fields[1] == "200"]
    if len(good) < CALLS:
        sys.exit(f"{url}: only {len(good)} of {CALLS} requests succeeded\n{shown}")
    rate = float(re.search(r"finished in .*?, ([\d.]+) req/s", shown).group(1))
    return {"p50_ms": quantile(good, 0.5), "p99_ms": quantile(good, 0.99), "req_s": rate}


def grpc_frame(message: bytes) -> bytes:
    """A message as gRPC sends it."""
    return b"\0" + len(message).to_bytes(4, "big") + message


async def aio_rows(here: Installed, echo_port: int) -> list[dict[str, object]]:
    """Echo, direct and through Envoy with one and the same kind of client."""
    token = here.token()
    metadata = [("authorization", f"Bearer {token}")]
    asked = grpc_service_pb2.ModelReadyRequest(name=MODEL)
    role = role_pb2.GetRoleRequest(name=ROLE)
    svid = issue_svid(here.home, Settings(), "gateway")
    mutual = grpc.ssl_channel_credentials(
        svid["trust_bundle"].encode(), svid["private_key"].encode(), svid["certificate_chain"].encode()
    )
    options = [("grpc.ssl_target_name_override", "engine.tiation.local")]
    front = grpc.ssl_channel_credentials((here.home / "ca.pem").read_bytes())
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{echo_port}") as bare,
        grpc.aio.secure_channel(here.gateway["services"]["engine"]["address"], mutual, options=options) as direct,
        grpc.aio.secure_channel(here.address, front) as gateway,
    ):
        echo = bare.unary_unary("/echo.Echo/Echo")
        payload = BytesValue(value=b"x" * 300).SerializeToString()
        stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub
        engine, through, roles = stub(direct), stub(gateway), role_pb2_grpc.RoleServiceStub(gateway)
        rows = []
        for name, call in (
            ("bare grpc.aio echo", lambda: echo(payload)),
            ("service direct, full chain", lambda: engine.ModelReady(asked, metadata=metadata)),
            ("through Envoy, gRPC", lambda: through.ModelReady(asked, metadata=metadata)),
            ("through Envoy, gRPC, one read", lambda: roles.GetRole(role, metadata=metadata)),
        ):
            found = await timed(call, CALLS)
            rows.append(
                {
                    "row": name,
                    "client": "grpc.aio",
                    "clients": 1,
                    "p50_ms": quantile(found, 0.5),
                    "p99_ms": quantile(found, 0.99),
                    "req_s": 1000 / statistics.mean(found),
                }
            )
        return rows


def servicer_ms(here: Installed, service: str, method: str) -> float:
    """The median time, milliseconds, that a servicer itself took for the newest calls of a method."""
    deadline = time.monotonic() + 20
    with here.rest() as client:
        while True:
            asked = {"service": service, "outcome": "OK", "page_size": 1000}
            records = client.get("/v1/tenants/default/records", params=asked).json()["records"]
            found = [
                int(record["call"]["stageUs"]["handler"]) / 1000
                for record in records
                if record["call"]["method"].endswith(method)
            ]
            if len(found) >= LEAST_RECORDS:
                return statistics.median(found)
            if time.monotonic() > deadline:
                sys.exit(f"only {len(found)} records of {method} have arrived")
            time.sleep(0.2)


def h2load_rows(here: Installed, echo_port: int, folder: Path) -> list[dict[str, object]]:
    """Echo and Envoy, with h2load."""
    bearer = {"authorization": f"Bearer {here.token()}"}
    as_grpc = {"content-type": "application/grpc", "te": "trailers"}
    ready = grpc_frame(grpc_service_pb2.ModelReadyRequest(name=MODEL).SerializeToString())
    asked = grpc_frame(role_pb2.GetRoleRequest(name=ROLE).SerializeToString())
    targets = (
        ("bare grpc.aio echo", f"http://127.0.0.1:{echo_port}/echo.Echo/Echo", grpc_frame(b"x" * 300), as_grpc),
        (
            "through Envoy, gRPC",
            f"{here.gateway['url']}/inference.GRPCInferenceService/ModelReady",
            ready,
            bearer | as_grpc,
        ),
        (
            "through Envoy, gRPC, one read",
            f"{here.gateway['url']}/tiation.security.v1.RoleService/GetRole",
            asked,
            bearer | as_grpc,
        ),
        ("through Envoy, REST, one read", f"{here.gateway['url']}/v1/{ROLE}", None, bearer),
    )
    return [
        {"row": name, "client": "h2load", "clients": clients, **h2load(folder, url, body, headers, clients=clients)}
        for clients in (1, 16)
        for name, url, body, headers in targets
    ]


def main() -> None:
    """Measure several rounds and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured")
    options = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is missing; on Debian: apt-get install nghttp2-client")
    rounds, own = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        port = free_ports(1)[0]
        echo = subprocess.Popen([sys.executable, "-c", ECHO, str(port)], stdout=subprocess.PIPE, text=True)
        try:
            assert echo.stdout is not None
            echo.stdout.readline()
            with installed(folder / "home") as here:
                for _ in range(options.rounds):
                    measured = asyncio.run(aio_rows(here, port))
                    own.append((servicer_ms(here, "engine", "ModelReady"), servicer_ms(here, "security", "GetRole")))
                    rounds.append(measured + h2load_rows(here, port, folder))
                ready_s = here.ready_s
        finally:
            echo.kill()
            echo.wait()
    rows = []
    for measured in zip(*rounds, strict=True):
        figures = {key: statistics.median(row[key] for row in measured) for key in ("p50_ms", "p99_ms", "req_s")}
        rows.append({key: measured[0][key] for key in ("row", "client", "clients")} | figures)
    by = {(row["row"], row["client"], row["clients"]): row["p50_ms"] for row in rows}
    echo_ms, direct_ms = (by[name, "grpc.aio", 1] for name in ("bare grpc.aio echo", "service direct, full chain"))
    ready_ms, read_ms = (statistics.median(each) for each in zip(*own, strict=True))
    bare_ms = by["bare grpc.aio echo", "h2load", 1]
    read_adds_ms = by["through Envoy, gRPC, one read", "h2load", 1] - bare_ms
    ratios = {
        "direct / echo, p50": direct_ms / echo_ms,
        "Envoy / echo, p50": by["through Envoy, gRPC", "h2load", 1] / by["bare grpc.aio echo", "h2load", 1],
        "the chain and Envoy add, p50 ms": by["through Envoy, gRPC", "h2load", 1]
        - by["bare grpc.aio echo", "h2load", 1],
        "  of that the servicer itself, p50 ms": ready_ms,
        "the same, grpc.aio as the client": by["through Envoy, gRPC", "grpc.aio", 1] - echo_ms,
        "a call that reads one row adds, p50 ms": read_adds_ms,
        "  of that the servicer itself with its read, p50 ms": read_ms,
        "  which leaves for the chain and Envoy, p50 ms": read_adds_ms - read_ms,
        "the same over REST adds, p50 ms": by["through Envoy, REST, one read", "h2load", 1] - bare_ms,
        "REST / gRPC through Envoy, p50": by["through Envoy, REST, one read", "h2load", 1]
        / by["through Envoy, gRPC, one read", "h2load", 1],
        "ready after `up --detach`, s": ready_s,
    }
    print(json.dumps({"written": str(write_results("gateway", rows, ratios).name)}))


if __name__ == "__main__":
    main()
