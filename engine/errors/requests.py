"""What is wrong with a request: its tensors, items, fields and parameters."""

from __future__ import annotations

from engine.errors.base import EngineError
from mesh.errors import Code, FieldViolation

__all__ = [
    "BodyError",
    "BodyTooLargeError",
    "ElementError",
    "ExplanationError",
    "FieldError",
    "FieldUnsupportedError",
    "InputRefusedError",
    "InputTooLargeError",
    "LabelsError",
    "NoLabelsError",
    "NotServedError",
    "ParameterError",
    "PromptError",
    "SamplingError",
    "TensorError",
    "TextsTooLongError",
    "WrongItemsError",
]


class TensorError(EngineError):
    """A tensor does not fit its description or the model."""

    code = Code.INVALID_ARGUMENT
    reason = "TENSOR_INVALID"

    def __init__(self, tensor: str, message: str) -> None:
        said, field = (f"tensor {tensor!r}: {message}", f"inputs[{tensor}]") if tensor else (message, "inputs")
        super().__init__(said, violations=(FieldViolation(field, message),), tensor=tensor)


class BodyError(EngineError):
    """A request's body is not what the protocol says it is."""

    code = Code.INVALID_ARGUMENT
    reason = "BODY_INVALID"


class BodyTooLargeError(EngineError):
    """A request's body comes to more than is taken."""

    code = Code.INVALID_ARGUMENT
    reason = "BODY_TOO_LARGE"


class FieldError(EngineError):
    """A field of a request in another protocol's words is unknown, missing, or not what it must be."""

    code = Code.INVALID_ARGUMENT
    reason = "FIELD_INVALID"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"`{field}`: {message}", violations=(FieldViolation(field, message),), field=field)


class FieldUnsupportedError(FieldError):
    """A field of a request asks for what the protocol knows and the engine does not do."""

    reason = "FIELD_UNSUPPORTED"


class NotServedError(EngineError):
    """The protocol has it, and this server does not."""

    code = Code.UNIMPLEMENTED
    reason = "NOT_SERVED"


class ElementError(EngineError):
    """One element of an input cannot be used; all others of the request wait for that.

    Attributes:
        index: which one, from 0.
    """

    code = Code.INVALID_ARGUMENT
    reason = "ELEMENT_INVALID"

    def __init__(self, field: str, index: int, message: str) -> None:
        super().__init__(
            f"{field}[{index}]: {message}",
            violations=(FieldViolation(f"{field}[{index}]", message),),
            field=field,
            index=index,
        )
        self.index = index


class ParameterError(EngineError):
    """A parameter has a value that cannot be; `of` is whose it is, `inputs[x].`, where it is not the request's own."""

    code = Code.INVALID_ARGUMENT
    reason = "PARAMETER_INVALID"

    def __init__(self, parameter: str, message: str, of: str = "") -> None:
        path = f"{of}parameters[{parameter}]"
        super().__init__(f"{path}: {message}", violations=(FieldViolation(path, message),), parameter=parameter)


class WrongItemsError(EngineError):
    """The request holds something else than the model takes, or nothing."""

    code = Code.INVALID_ARGUMENT
    reason = "ITEMS_INVALID"


class ExplanationError(EngineError):
    """An answer cannot be explained, by this model or so many at once."""

    code = Code.FAILED_PRECONDITION
    reason = "EXPLANATION_UNAVAILABLE"

    def __init__(self, message: str) -> None:
        super().__init__(f"explain: {message}", violations=(FieldViolation("explain", message),))


class LabelsError(EngineError):
    """The labels of a request that a text may get are none, too many, or not each another."""

    code = Code.INVALID_ARGUMENT
    reason = "LABELS_INVALID"

    def __init__(self, message: str) -> None:
        super().__init__(f"labels: {message}", violations=(FieldViolation("labels", message),))


class TextsTooLongError(EngineError):
    """The texts of a request come to more than is read at once."""

    code = Code.INVALID_ARGUMENT
    reason = "TEXTS_TOO_LONG"

    def __init__(self, message: str) -> None:
        super().__init__(f"texts: {message}", violations=(FieldViolation("texts", message),))


class NoLabelsError(EngineError):
    """The model gives no labels, or no vectors, that could be answered with."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_KIND_UNSUITABLE"


class PromptError(EngineError):
    """A prompt that the model cannot go on from."""

    code = Code.INVALID_ARGUMENT
    reason = "PROMPT_INVALID"

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}", violations=(FieldViolation(field, message),), field=field)
        self.field = field
        self.said = message


class SamplingError(PromptError):
    """A wish about how tokens are chosen that cannot be met."""

    reason = "SAMPLING_INVALID"


class InputRefusedError(EngineError):
    """Well-formed tensors with values or lengths that the model cannot compute with."""

    code = Code.INVALID_ARGUMENT
    reason = "INPUT_REFUSED"


class InputTooLargeError(InputRefusedError):
    """Tensors whose values or lengths make the model take more memory than there is."""

    reason = "INPUT_TOO_LARGE"
