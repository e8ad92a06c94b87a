"""The compose files, as far as no Docker engine is needed: read by real tools, and held against a real platform.

Envoy is started here as the envoy container starts it, by somebody who is not the supervisor.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from mesh.config import load_settings
from tests.fakes.installed import CLONE, Installed, installed
from tests.fakes.runs import events_until_end, start

COMPOSE = CLONE / "deploy" / "compose"
PROMTOOL = CLONE / ".cache" / "bin" / "promtool"
ENVOY = CLONE / ".envoy" / "envoy" / "_bin" / "envoy"


def compose_command() -> list[str]:
    """Whichever Compose is here; `tools/install_compose.sh` brings one."""
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    pytest.skip("no Docker Compose here; tools/install_compose.sh brings it on Debian")


def promtool() -> str:
    """Prometheus' own checker; `tools/install_compose.sh` brings it."""
    if not PROMTOOL.exists():
        pytest.skip("no promtool here; tools/install_compose.sh brings it on Debian")
    return str(PROMTOOL)


@pytest.fixture(scope="module")
def configured() -> dict:
    """The compose file as Compose understands it."""
    command = [*compose_command(), "--file", str(COMPOSE / "compose.yaml"), "config"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return yaml.safe_load(ran.stdout)


def test_compose_reads_the_file_and_every_file_that_it_names_is_there(configured):
    assert set(configured["services"]) == {"platform", "envoy", "jaeger", "prometheus", "grafana"}
    for name, service in configured["services"].items():
        assert name == "platform" or service["network_mode"] == "service:platform"
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            assert source in configured["volumes"] or Path(source).is_file(), source
    assert (COMPOSE / "Dockerfile").is_file()


def test_envoy_and_prometheus_are_shown_nothing_of_the_home_but_their_own_folder(configured):
    for name in ("envoy", "prometheus"):
        volumes = configured["services"][name]["volumes"]
        shown = {each["source"] if isinstance(each, dict) else each.split(":")[0] for each in volumes}
        assert "home" not in shown


def test_the_envoy_that_make_installs_and_the_container_s_are_one_version(configured):
    version = re.search(r"^ENVOY_VERSION := (.*)$", (CLONE / "Makefile").read_text(), re.MULTILINE)
    assert version is not None
    assert configured["services"]["envoy"]["image"] == f"envoyproxy/envoy:v{version[1]}"


def ignored_by_git() -> Iterator[str]:
    """What the .gitignore files name, as Docker names it: their patterns hold at any depth, Docker's from the top."""
    ours = [pattern.rstrip("/") for pattern in (CLONE / ".gitignore").read_text().split()]
    for folder, below, files in os.walk(CLONE):
        below[:] = [name for name in below if name != ".git" and not any(fnmatch(name, each) for each in ours)]
        if ".gitignore" in files:
            place = Path(folder).relative_to(CLONE) / "**"
            patterns = Path(folder, ".gitignore").read_text().split()
            yield from ((place / pattern.rstrip("/")).as_posix() for pattern in patterns)


def test_the_dockerfile_copies_nothing_that_git_ignores():
    """Which is what was made here: a demo's home with its keys, for example."""
    wanted = {".git", *ignored_by_git()}
    assert {"**/.tiation", "**/.tiation-demo", "**/*.key"} <= wanted
    assert set((CLONE / ".dockerignore").read_text().split()) == wanted


def test_the_container_runs_under_a_user_without_rights():
    users = re.findall(r"^USER (.*)$", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["tiation"]


class Elsewhere:
    """Runs Envoy as the container does: the compose file's own command, started again whenever it ends."""

    def __init__(self, home: Path, command: str) -> None:
        command = command.replace("/var/lib/tiation", str(home)).replace("exec envoy", f"exec {ENVOY}")
        command = command.replace("$$", "$")
        loop = f"while true; do bash -c {json.dumps(command)}; done"
        self.log = (home.parent / "envoy-elsewhere.log").open("wb")
        self.process = subprocess.Popen(["bash", "-c", loop], stdout=self.log, stderr=self.log, start_new_session=True)

    def close(self) -> None:
        """End it with everything that it has started."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def here(configured, tmp_path_factory) -> Iterator[Installed]:
    """A platform whose Envoy somebody else runs."""
    home = tmp_path_factory.mktemp("compose") / "home"
    (home / "gateway").mkdir(parents=True, mode=0o700)
    home.chmod(0o700)
    (home / "tiation.yaml").write_text("gateway: {managed: false}\n")
    elsewhere = Elsewhere(home, configured["services"]["envoy"]["entrypoint"][-1])
    try:
        with installed(home) as made:
            made.deploy_example()
            yield made
    finally:
        elsewhere.close()


def test_a_run_goes_through_an_envoy_that_somebody_else_runs(here):
    assert here.gateway["services"]["envoy"]["pid"] == 0
    assert events_until_end(here, start(here, 1, "elsewhere"))
    assert "gateway.managed is false" in here.command("doctor", check=False).stdout


def test_the_configuration_names_nothing_outside_its_folder(here):
    text = (here.home / "gateway" / "envoy.json").read_text()
    named = set(re.findall(r'"(/[^"*]+/[^"*]+)"', text))
    files = {name for name in named if name.startswith((str(here.home), str(CLONE)))}
    assert len(files) >= 8
    assert all(Path(name).parent == here.home / "gateway" for name in files), files


def test_every_figure_of_the_dashboard_is_one_that_a_platform_shows(here):
    targets = json.loads((here.home / "metrics" / "prometheus-targets.json").read_text())
    assert {target["labels"]["process"] for target in targets} == set(here.gateway["services"]) - {"envoy"}
    scraped = "".join(here.metrics(target["labels"]["process"]) for target in targets)
    shown = set(re.findall(r"^([a-z_:]+)(?:\{|\s)", scraped, re.MULTILINE))
    shown |= set(re.findall(r"^# TYPE ([a-z_:]+) (?:counter|gauge)$", scraped, re.MULTILINE))
    panels = json.loads((COMPOSE / "grafana" / "platform.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert len(asked) >= 15
    for query in asked:
        names = set(
            re.findall(r"\b((?:rpc|nv|tiation|process)_[a-z_]+)\b", re.sub(r"by \([^)]*\)|\{[^}]*\}", "", query))
        )
        assert names, query
        assert names <= shown, names - shown


def test_every_figure_of_the_guide_is_one_that_a_platform_shows(here):
    scraped = "".join(here.metrics(process) for process in here.gateway["services"] if process != "envoy")
    guide = (CLONE / "docs" / "observability.md").read_text()
    rows = re.findall(r"^\| ((?:`[a-z_*]+`(?:, )?)+) \|", guide.partition("## Figures")[2], re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([a-z_]+)\*?`", row)]
    assert len(names) >= 8
    assert all(re.search(f"^(# TYPE )?{name}", scraped, re.MULTILINE) for name in names), names


def test_the_settings_of_the_guide_are_settings(tmp_path):
    guide = (CLONE / "docs" / "observability.md").read_text()
    (tmp_path / "tiation.yaml").write_text(guide.partition("```yaml\n")[2].partition("```")[0])
    assert load_settings(tmp_path, {}).tracing.endpoint


def test_a_record_names_its_trace_as_the_guide_says(here):
    trace_id = secrets.token_hex(16)
    with here.rest() as client:
        header = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-00"}
        assert client.get("/v1/tenants/default/agents", headers=header).status_code == 200
    for _ in range(50):
        if trace_id in here.command("records", "list", "--output", "json").stdout:
            return
        time.sleep(0.2)
    raise AssertionError("no record names the trace")


def test_a_platform_that_starts_again_has_envoy_take_up_its_new_configuration(here):
    before = here.gateway["services"]["orchestrator"]["address"]
    port = here.gateway["url"].rsplit(":", 1)[1]
    here.command("down")
    assert not (here.home / "gateway" / "envoy.json").exists()
    command = [str(CLONE / ".venv/bin/tiation"), "up", "--detach", "--home", str(here.home), "--port", port]
    subprocess.run(command, check=True, capture_output=True, timeout=90)
    assert here.gateway["services"]["orchestrator"]["address"] != before
    assert events_until_end(here, start(here, 2, "again"))


def test_prometheus_accepts_its_configuration(tmp_path, here):
    targets = here.home / "metrics" / "prometheus-targets.json"
    text = (COMPOSE / "prometheus.yml").read_text()
    assert "/var/lib/tiation/metrics/prometheus-targets.json" in text
    (tmp_path / "prometheus.yml").write_text(
        text.replace("/var/lib/tiation/metrics/prometheus-targets.json", str(targets))
    )
    said = subprocess.run(
        [promtool(), "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    # A query that is none is refused by the same parser: PromQL has to be right, not only the names in it.
    panels = json.loads((COMPOSE / "grafana" / "platform.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    rules = [
        {"record": f"asked:{n}", "expr": query.replace("$__rate_interval", "1m")} for n, query in enumerate(queries)
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    said = subprocess.run(
        [promtool(), "check", "rules", str(tmp_path / "rules.yml")], capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
