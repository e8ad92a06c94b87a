"""A model's policy and aliases, and where a version comes from, in a few words."""

from __future__ import annotations

from tiation.engine.v1 import model_pb2 as pb

from mesh.errors import Code, TiationError

__all__ = [
    "WORDS_OF_VERSION",
    "FailedVersionError",
    "aliases_of",
    "policy_of",
    "refuse_failed",
    "state_of",
    "version_in_words",
]

WORDS_OF_VERSION = ("state", "kind", "pushed", "by", "source", "signed", "why")
"""What `version_in_words` tells, in its order."""


class FailedVersionError(TiationError):
    """A version is stored, and cannot be loaded."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_VERSION_FAILED"


def policy_of(model: pb.Model) -> str:
    """A model's version policy in a few words."""
    policy = model.version_policy
    match policy.WhichOneof("choice"):
        case "all":
            return "all"
        case "specific":
            return "versions " + (",".join(map(str, policy.specific.versions)) or "none")
        case _:
            return f"latest {policy.latest.count or 1}"


def aliases_of(model: pb.Model) -> str:
    """A model's aliases in one line: `canary=3:90,4:10 production=3`; empty where it has none."""
    return " ".join(f"{name}={_targets(model.aliases[name])}" for name in sorted(model.aliases))


def _targets(alias: pb.Alias) -> str:
    if len(alias.weights) == 1:
        return str(next(iter(alias.weights)))
    return ",".join(f"{version}:{alias.weights[version]}" for version in sorted(alias.weights))


def state_of(version: pb.ModelVersion) -> str:
    """Whether a version answers."""
    return pb.ModelVersion.State.Name(version.state).lower()


def version_in_words(version: pb.ModelVersion) -> tuple[str, ...]:
    """A version's state, kind, time, who pushed it, its source, its signature's key, and why it failed."""
    came = version.provenance
    source = "@".join(part for part in (came.source.uri, came.source.revision[:12]) if part)
    return (
        state_of(version),
        version.kind,
        version.create_time.ToDatetime().strftime("%Y-%m-%d %H:%M"),
        (came.actor or came.subject).rsplit("/", 1)[-1] or "-",
        source or "-",
        came.signature_key_id[:12] or "-",
        version.state_message,
    )


def refuse_failed(version: pb.ModelVersion) -> None:
    """See that a version that shall answer does.

    Raises:
        FailedVersionError: it could not be loaded; the message says why.
    """
    if version.state == pb.ModelVersion.FAILED:
        raise FailedVersionError(f"{version.name} cannot be loaded: {version.state_message}", resource=version.name)
