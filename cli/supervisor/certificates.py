"""The certificates that the supervisor lays: a service's first one at every start, the front proxy's all along."""

from __future__ import annotations

import json
from collections.abc import Mapping

from cli.gateway import sds
from cli.gateway.own_certificate import OwnCertificate, own_certificate
from cli.home import Home
from mesh.config import GatewaySettings, Settings
from mesh.svid import write_private
from security.bootstrap import bootstrap, issue_front_certificate, issue_svid

__all__ = ["Certificates", "front_hosts"]

_ALWAYS = ("localhost", "127.0.0.1")


class Certificates:
    """Issues and lays certificates.

    Args:
        home: the platform's home.
        settings: everything the operator said.

    Raises:
        OwnCertificateError: the operator's certificate cannot be shown.
    """

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._settings = settings
        bootstrap(home.path, settings)
        self.own: Mapping[str, str] = {}
        self._theirs: OwnCertificate | None = None
        self.renew()

    def lay(self, workload: str, process: str = "") -> Mapping[str, str]:
        """Give a workload a fresh certificate in its folder; each of its processes has a folder of its own."""
        document = issue_svid(self._home.path, self._settings, workload)
        folder = self._home.path / (process or workload)
        folder.mkdir(mode=0o700, exist_ok=True)
        write_private(folder / "svid.json", json.dumps(document))
        return document

    def renew(self) -> None:
        """Renew what does not renew itself: the supervisor's own, and all of the front proxy's.

        Raises:
            OwnCertificateError: the operator's certificate cannot be shown; everything else was renewed.
        """
        self.own = self.lay("supervisor")
        folder = self._home.path / "gateway"
        sds.write_svid(folder, issue_svid(self._home.path, self._settings, "gateway"))
        try:
            self._theirs = own_certificate(self._home.path, self._settings.gateway)
        finally:
            hosts = front_hosts(self._settings.gateway, self._theirs)
            sds.write_front(folder, issue_front_certificate(self._home.path, self._settings, hosts))
        if self._theirs is not None:
            sds.write_own(folder, self._theirs.document)
        else:
            (folder / sds.SECRETS["own"]).unlink(missing_ok=True)  # no key stays that nobody needs


def front_hosts(gateway: GatewaySettings, theirs: OwnCertificate | None) -> list[str]:
    """The names and addresses that the platform's own certificate is for.

    Args:
        gateway: the settings of the front door.
        theirs: the operator's certificate; of two that have a name the proxy would show the first.
    """
    listening = [gateway.host] if gateway.host != "0.0.0.0" else []  # noqa: S104 -- compared, not bound
    named = [name.lower() for name in gateway.names if theirs is None or not theirs.covers(name)]
    return list(dict.fromkeys([*_ALWAYS, *listening, *named]))
