"""The certificates that the supervisor lays: a service's first one at every start, the front proxy's all along."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cli.gateway import sds
from cli.home import Home
from mesh.config import Settings
from mesh.svid import write_private
from security.bootstrap import bootstrap, issue_front_certificate, issue_svid

__all__ = ["Certificates"]


class Certificates:
    """Issues and lays certificates.

    Args:
        home: the platform's home.
        settings: everything the operator said.
    """

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings
        bootstrap(home.path, settings)
        self.own: Mapping[str, str] = {}
        self.renew()

    def lay(self, workload: str, process: str = "") -> Mapping[str, str]:
        """Give a workload a fresh certificate in its folder; each of its processes has a folder of its own."""
        document = issue_svid(self._home.path, self._settings, workload)
        folder = self._home.path / (process or workload)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_private(folder / "svid.json", json.dumps(document))
        return document

    def renew(self) -> None:
        """Renew what does not renew itself: the supervisor's own, and both of the front proxy's."""
        self.own = self.lay("supervisor")
        folder = self._home.path / "gateway"
        sds.write_svid(folder, issue_svid(self._home.path, self._settings, "gateway"))
        host = self._settings.gateway.host
        hosts = dict.fromkeys(["localhost", "127.0.0.1", host] if host != "0.0.0.0" else ["localhost", "127.0.0.1"])  # noqa: S104
        sds.write_front(folder, issue_front_certificate(self._home.path, self._settings, list(hosts)))
