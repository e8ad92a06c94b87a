"""`bandits`: choices that get better with what comes of them."""

from __future__ import annotations

from collections.abc import Iterable

import click
from tiation.engine.v1 import bandit_pb2 as pb
from tiation.engine.v1 import bandit_pb2_grpc

from cli.client import TIMEOUT_S, parse
from cli.document import json_option
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, numbered, print_json, print_one, print_table
from cli.resources import Kind, add_apply, add_looking

__all__ = ["bandits"]

_SHOWN = 5
"""Names in a column, and weights of an arm."""


def _named(names: Iterable[str]) -> str:
    """The first few names."""
    found = list(names)
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


KIND = Kind(
    pb, bandit_pb2_grpc.BanditServiceStub, "Bandit", "bandit", "bandits", "bandits",
    ("bandit", "arms", "features"),
    lambda bandit: (bandit.name, _named(arm.id for arm in bandit.arms), _named(each.name for each in bandit.features)),
)  # fmt: skip


@click.group()
def bandits() -> None:
    """Bring bandits, let them choose, and tell them what came of it."""


add_apply(bandits, KIND, "examples/reply-style/bandit.yaml")
add_looking(bandits, KIND, "reply-style", ending=" All that it has learnt goes with it.")


@bandits.command()
@click.argument("bandit")
@click.option("--context", "given", default="{}", metavar="JSON", help="A value for each feature; @FILE reads a file.")
@click.option("--top-k", default=0, help="How many arms' scores to show, best first.  [default: 5]")
@tenant_option
@home_option
@output_option
def choose(bandit: str, given: str, top_k: int, home: Home, tenant: str, output: str) -> None:
    """Have BANDIT choose an arm, and say why.

    \b
    Example:
      tiation bandits choose reply-style --context '{"tier": "free", "urgency": 0.4}'
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, bandit)
    request = pb.ChooseRequest(name=name, top_k=top_k)
    parse(json_option(given, "--context"), request.context, "--context")
    with KIND.connect(home, owner) as stub:
        answer = stub.Choose(request, timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(answer))
        return
    click.echo(f"{answer.arm}, choice {answer.choice_id}\n{answer.text}\n")
    print_table(
        ("arm", "score", "expected", "uncertain by", "probability"),
        [
            (
                each.arm, f"{each.score:.3f}", f"{each.expected_reward:.3f}", f"{each.uncertainty:.3f}",
                f"{each.probability:.3f}",
            )
            for each in answer.scores
        ],
    )  # fmt: skip


@bandits.command()
@click.argument("bandit")
@click.argument("choice_id")
@click.argument("reward", type=float)
@tenant_option
@home_option
@output_option
def reward(bandit: str, choice_id: str, reward: float, home: Home, tenant: str, output: str) -> None:
    """Tell BANDIT what came of a choice; the same again is counted once.

    \b
    Example:
      tiation bandits reward reply-style 7c9e6679-7425-40de-944b-e07fc1f90ae7 1
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, bandit)
    with KIND.connect(home, owner) as stub:
        answer = stub.Reward(pb.RewardRequest(name=name, choice_id=choice_id, reward=reward), timeout=TIMEOUT_S)
    print_one(answer, output, f"{answer.arm} {'learnt' if answer.learnt else 'nothing new was learnt'}")


@bandits.command()
@click.argument("bandit")
@tenant_option
@home_option
@output_option
def report(bandit: str, home: Home, tenant: str, output: str) -> None:
    """Say what BANDIT has learnt of each arm, and what always taking it would have brought.

    \b
    Example:
      tiation bandits report reply-style
    """  # noqa: D301 -- \b is click's
    owner, _, name = KIND.split(tenant, bandit)
    with KIND.connect(home, owner) as stub:
        found = stub.ReportBandit(pb.ReportBanditRequest(name=name), timeout=TIMEOUT_S)
    if output == "json":
        print_json(as_json(found))
        return
    print_table(
        ("arm", "rewards", "mean", "if always taken", "as good as", "weights"),
        [
            (
                each.arm, f"{each.reward_count:g}", f"{each.mean_reward:.3f}", f"{each.always_reward:.3f}",
                numbered(round(each.effective_count), "choice"), _weights(each),
            )
            for each in found.arms
        ],
    )  # fmt: skip
    click.echo(f"\n{numbered(found.choice_count, 'choice')}, {numbered(found.reward_count, 'reward')}")


def _weights(arm: pb.ArmReport) -> str:
    """The weights that matter most."""
    best = sorted(arm.weights, key=lambda each: -abs(each.contribution))[:_SHOWN]
    return " ".join(f"{each.feature} {each.contribution:+.2f}" for each in best if each.contribution)
