"""A model's policy and aliases in a few words."""

from __future__ import annotations

from tiation.engine.v1 import model_pb2 as pb

__all__ = ["aliases_of", "policy_of"]


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
    """A model's aliases in one line: `canary=3:90,4:10 production=3`."""
    return " ".join(f"{name}={_targets(model.aliases[name])}" for name in sorted(model.aliases)) or "-"


def _targets(alias: pb.Alias) -> str:
    if len(alias.weights) == 1:
        return str(next(iter(alias.weights)))
    return ",".join(f"{version}:{alias.weights[version]}" for version in sorted(alias.weights))
