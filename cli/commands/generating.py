"""The command of `models` that has one write, shown as it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import click
from tiation.engine.v1 import prediction_pb2 as pb
from tiation.engine.v1 import prediction_pb2_grpc

from cli.client import connect
from cli.commands.model_kind import KIND
from cli.commands.model_names import own_or_shipped
from cli.home import Home
from cli.options import home_option, output_option, tenant_option
from cli.output import as_json, numbered, print_json

__all__ = ["generate"]

_TIMEOUT_S = 600.0


@click.command()
@click.argument("model")
@click.argument("text")
@click.option("--as-is", is_flag=True, help="Go on from TEXT itself.  [default: TEXT is what a user says]")
@click.option("--system", default="", help="What the model is told before.")
@click.option("--max-tokens", default=256, show_default=True, help="The most tokens; 0 for all that fit.")
@click.option("--temperature", type=float, help="0 takes the most probable token.  [default: the model's; else 1]")
@click.option("--top-p", type=float, help="Only the most probable tokens that come to this share together.")
@click.option("--seed", type=int, help="The same seed gives the same text.")
@click.option("--stop", "stops", multiple=True, help="A text that ends the answer; may be given several times.")
@click.option("--json-schema", default="", help="A JSON Schema that the answer shall follow; @FILE reads one.")
@click.option("--version", default="", help="Which version, or an alias.  [default: the newest that is loaded]")
@tenant_option
@home_option
@output_option
def generate(
    model: str,
    text: str,
    home: Home,
    tenant: str,
    *,
    system: str,
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    seed: int | None,
    stops: Sequence[str],
    json_schema: str,
    version: str,
    output: str,
    as_is: bool,
) -> None:
    """Have MODEL answer TEXT; the answer is shown as it is written.

    \b
    Example:
      tiation models generate docs-writer "What does PredictionService.Embed do?"
    """  # noqa: D301 -- \b is click's
    owner, _, _ = KIND.split(tenant, model)
    if as_is and system:
        raise click.UsageError("--system goes with a conversation, not with --as-is")
    told = [pb.PromptMessage(role="system", content=system)] if system else []
    said = pb.PromptMessage(role="user", content=text)
    sampling = pb.SamplingSettings(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        stop=stops,
        json_schema=_read(json_schema),
    )
    which: dict[str, Any] = {"version": int(version)} if version.isdecimal() else {"alias": version}
    request = pb.GenerateRequest(
        prompts=[pb.Prompt(text=text) if as_is else pb.Prompt(messages=[*told, said])],
        sampling=sampling,
        **which,
    )
    with connect(home, prediction_pb2_grpc.PredictionServiceStub, owner) as stub:
        parts = own_or_shipped(home, tenant, model, lambda name: _begun(stub, request, name))
        if output == "json":
            print_json(_whole(parts))
        else:
            _show(parts)


def _begun(stub: Any, request: pb.GenerateRequest, name: str) -> Iterator[pb.GenerateResponse]:  # noqa: ANN401
    """The parts of an answer, of which the first is there: what refuses the request has done so."""
    request.name = name
    parts: Iterator[pb.GenerateResponse] = iter(stub.Generate(request, timeout=_TIMEOUT_S))
    first = next(parts, None)
    return parts if first is None else chain([first], parts)


def _show(parts: Iterable[pb.GenerateResponse]) -> None:
    """Print an answer as it is written, and on standard error that it was cut off, where it was."""
    last = pb.GenerateResponse()
    for last in _going_on(parts):
        click.echo(last.text, nl=False)
    click.echo()
    if last.finish == pb.GenerateResponse.LENGTH:
        tokens = numbered(last.completion_tokens, "token")
        click.echo(f"(cut off after {tokens}; --max-tokens 0 lets it go on as long as the model can)", err=True)


def _read(said: str) -> str:
    """A text, or what is in the file that it names."""
    if not said.startswith("@"):
        return said
    with click.open_file(said[1:], encoding="utf-8") as file:
        return str(file.read())


def _going_on(parts: Iterable[pb.GenerateResponse]) -> Iterable[pb.GenerateResponse]:
    """The parts of the one answer.

    Raises:
        ClickException: it could not be finished.
    """
    for part in parts:
        if part.HasField("error"):
            raise click.ClickException(part.error.message)
        yield part


def _whole(parts: Iterable[pb.GenerateResponse]) -> Any:  # noqa: ANN401 -- any JSON
    """The answer in one, as its last part shows it."""
    text, last = [], pb.GenerateResponse()
    for part in _going_on(parts):
        text.append(part.text)
        last = part
    last.text = "".join(text)
    return as_json(last)
