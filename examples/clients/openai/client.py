"""Asks models with OpenAI's own client: which there are, how alike two texts are, and what a model goes on with.

.venv/bin/python examples/clients/openai/client.py "some text" "another one"
.venv/bin/python examples/clients/openai/client.py --chat docs-writer "What does engine.max_queue do?"
"""

from __future__ import annotations

import argparse
import ssl
from pathlib import Path

import httpx
from openai import OpenAI


def main() -> None:
    """Print the models and how alike two texts are; or an answer, as it is made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", help="two texts to compare; or, with --chat, what to say")
    parser.add_argument("--chat", metavar="MODEL", help="a model of the kind text-generation that answers")
    parser.add_argument("--home", type=Path, default=Path(".tiation"), help="the platform's state folder")
    parser.add_argument("--address", default="127.0.0.1:8443", help="the gateway's host and port")
    options = parser.parse_args()

    context = ssl.create_default_context(cafile=str(options.home / "ca.pem"))
    token = (options.home / "token").read_text().strip()
    with OpenAI(
        base_url=f"https://{options.address}/v1", api_key=token, http_client=httpx.Client(verify=context)
    ) as client:
        if options.chat:
            turn = {"role": "user", "content": " ".join(options.texts)}
            for chunk in client.chat.completions.create(
                model=options.chat, messages=[turn], max_tokens=64, temperature=0, stream=True
            ):
                print(chunk.choices[0].delta.content or "", end="", flush=True)
            print()
            return
        for model in client.models.list():
            print(f"{model.id} of {model.owned_by}")
        answer = client.embeddings.create(model="all-minilm-l6-v2", input=options.texts)
        one, other, *_ = (each.embedding for each in answer.data)
        print(f"the texts are alike by {sum(a * b for a, b in zip(one, other, strict=True)):.3f}")


if __name__ == "__main__":
    main()
