"""Asks models with NVIDIA's tritonclient, over the Open Inference Protocol: what a model takes, a digit, two texts.

.venv/bin/python examples/clients/tritonclient/client.py seven.png "some text" "another one"
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


def tensor(name: str, items: list[bytes]) -> triton.InferInput:
    """A BYTES tensor with one item a row."""
    made = triton.InferInput(name, [len(items)], "BYTES")
    made.set_data_from_numpy(np.array(items, dtype=np.object_))
    return made


def main() -> None:
    """Print what the model of digits takes and gives, the digit of an image, how alike two texts are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="a PNG, JPEG or WebP file with one digit")
    parser.add_argument("texts", nargs=2, help="two texts to compare")
    parser.add_argument("--home", type=Path, default=Path(".tiation"), help="the platform's state folder")
    parser.add_argument("--address", default="127.0.0.1:8443", help="the gateway's host and port")
    options = parser.parse_args()

    client = triton.InferenceServerClient(options.address, ssl=True, root_certificates=str(options.home / "ca.pem"))
    headers = {"authorization": f"Bearer {(options.home / 'token').read_text().strip()}"}
    metadata = client.get_model_metadata("digits", headers=headers)
    for side, tensors in (("takes", metadata.inputs), ("gives", metadata.outputs)):
        for each in tensors:
            print(f"digits {side} {each.name}: {each.datatype} {list(each.shape)}")

    answer = client.infer("digits", [tensor("image", [options.image.read_bytes()])], headers=headers)
    label = answer.as_numpy("label")[0]
    print(f"{options.image.name} is a {label} ({answer.as_numpy('probabilities')[0].max():.2f})")

    texts = tensor("text", [text.encode() for text in options.texts])
    vectors = client.infer("all-minilm-l6-v2", [texts], headers=headers).as_numpy("embedding")
    one, other = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    print(f"the texts are alike by {float(one @ other):.3f}")
    client.close()


if __name__ == "__main__":
    main()
