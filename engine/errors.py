"""Everything that can go wrong in the engine, one class per cause.

How an error reaches a caller lives in `mesh.status`.
"""

from __future__ import annotations

from mesh.errors import Code, FieldViolation, TiationError

__all__ = [
    "AliasNotReadyError",
    "AnswerUnreadError",
    "AsideError",
    "BackboneError",
    "BackboneInUseError",
    "BodyError",
    "BodyTooLargeError",
    "CacheUrlError",
    "DeviceUnavailableError",
    "DigestMismatchError",
    "ElementError",
    "EngineError",
    "EnsembleError",
    "ExplanationError",
    "ExternalDataError",
    "FieldError",
    "FieldUnsupportedError",
    "InferenceFailedError",
    "InferenceTimeoutError",
    "InputRefusedError",
    "LabelsError",
    "ManifestError",
    "ModelCrashedError",
    "ModelFileError",
    "ModelLoadError",
    "ModelNotFoundError",
    "ModelNotReadyError",
    "ModelTooBigError",
    "NoLabelsError",
    "NoRoomError",
    "NotServedError",
    "OpsetError",
    "ParameterError",
    "PromptError",
    "QueueFullError",
    "QueueTimeoutError",
    "ReadOnlyModelError",
    "RegionExistsError",
    "RegionInvalidError",
    "RegionNotFoundError",
    "SamplingError",
    "SequenceExistsError",
    "SequenceNotFoundError",
    "SequenceRequiredError",
    "SequenceStateError",
    "SequencesFullError",
    "SharedMemoryOffError",
    "SignatureError",
    "StepError",
    "StorageFullError",
    "StorageSettingError",
    "StorageUnavailableError",
    "TensorError",
    "TextsTooLongError",
    "TooDeepError",
    "TooManyRegionsError",
    "TooManyUploadsError",
    "UploadBusyError",
    "UploadError",
    "UploadExistsError",
    "UploadNotFoundError",
    "VersionAliasedError",
    "VersionExistsError",
    "VersionNotFoundError",
    "VersionServingError",
    "WarmUpError",
    "WrongItemsError",
]


class EngineError(TiationError):
    """The base of the engine's errors."""

    domain = "engine.tiation.dev"


class TensorError(EngineError):
    """A tensor does not fit its description or the model."""

    code = Code.INVALID_ARGUMENT
    reason = "TENSOR_INVALID"

    def __init__(self, tensor: str, message: str) -> None:
        super().__init__(
            f"tensor {tensor!r}: {message}", violations=(FieldViolation(f"inputs[{tensor}]", message),), tensor=tensor
        )


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


class SharedMemoryOffError(EngineError):
    """The operator takes no regions of shared memory."""

    code = Code.UNIMPLEMENTED
    reason = "SHARED_MEMORY_OFF"


class RegionInvalidError(EngineError):
    """A region of shared memory is not where or as large as it is said to be."""

    code = Code.INVALID_ARGUMENT
    reason = "SHARED_MEMORY_INVALID"


class RegionNotFoundError(EngineError):
    """The tenant has registered no region of that name."""

    code = Code.NOT_FOUND
    reason = "SHARED_MEMORY_NOT_FOUND"


class RegionExistsError(EngineError):
    """The tenant has registered a region of that name already."""

    code = Code.ALREADY_EXISTS
    reason = "SHARED_MEMORY_EXISTS"


class TooManyRegionsError(EngineError):
    """No more regions of shared memory are taken."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SHARED_MEMORY_EXHAUSTED"


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


class ManifestError(EngineError):
    """`model.yaml` is not a manifest."""

    code = Code.INVALID_ARGUMENT
    reason = "MANIFEST_INVALID"

    def __init__(self, message: str) -> None:
        super().__init__(f"model.yaml: {message}", violations=(FieldViolation("model.yaml", message),))


class ModelFileError(EngineError):
    """A model file is truncated, is no ONNX, or is not a valid graph."""

    code = Code.INVALID_ARGUMENT
    reason = "MODEL_FILE_INVALID"


class ExternalDataError(EngineError):
    """A model keeps weights in a file outside its own folder."""

    code = Code.INVALID_ARGUMENT
    reason = "EXTERNAL_DATA_REFUSED"


class OpsetError(EngineError):
    """A model needs operators that this runtime does not have."""

    code = Code.INVALID_ARGUMENT
    reason = "OPSET_UNSUPPORTED"


class ModelLoadError(EngineError):
    """The runtime refused a model that looked valid."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_LOAD_FAILED"


class ModelCrashedError(EngineError):
    """A model ends the process that opens it."""

    code = Code.INVALID_ARGUMENT
    reason = "MODEL_CRASHED"


class DeviceUnavailableError(EngineError):
    """The device in the settings is not there."""

    code = Code.FAILED_PRECONDITION
    reason = "DEVICE_UNAVAILABLE"


class CacheUrlError(EngineError):
    """The setting that says where Redis is says it in no way that Redis knows."""

    code = Code.FAILED_PRECONDITION
    reason = "CACHE_URL_INVALID"

    def __init__(self) -> None:
        super().__init__(
            "engine.cache_redis is no URL of Redis; it must be like redis://:PASSWORD@HOST:6379/0",
            setting="engine.cache_redis",
        )


class ModelNotFoundError(EngineError):
    """Neither the caller's tenant nor `system` has the model."""

    code = Code.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class VersionNotFoundError(EngineError):
    """The model has no such version."""

    code = Code.NOT_FOUND
    reason = "MODEL_VERSION_NOT_FOUND"


class ModelNotReadyError(EngineError):
    """The model exists and is not loaded, or is just being unloaded."""

    code = Code.UNAVAILABLE
    reason = "MODEL_NOT_READY"


class ModelTooBigError(EngineError):
    """A model needs more memory than all models together may have."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_TOO_BIG"


class NoRoomError(EngineError):
    """The memory for models is full, and nothing in it can be put aside now."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "MODEL_MEMORY_FULL"


class AsideError(ModelNotReadyError):
    """The version was put aside to make room, and comes back when it is asked."""

    code = Code.UNAVAILABLE
    reason = "MODEL_PUT_ASIDE"


class VersionExistsError(EngineError):
    """A version with this number and other files is already there."""

    code = Code.ALREADY_EXISTS
    reason = "MODEL_VERSION_EXISTS"


class VersionServingError(EngineError):
    """The version serves and cannot be deleted before it is unloaded."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_VERSION_SERVING"


class VersionAliasedError(EngineError):
    """An alias names the version; it cannot go before the alias names another."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_VERSION_ALIASED"


class AliasNotReadyError(EngineError):
    """An alias can only name versions that answer requests."""

    code = Code.FAILED_PRECONDITION
    reason = "ALIAS_VERSION_NOT_READY"


class WarmUpError(EngineError):
    """A version was opened and then failed what its manifest warms it up with."""

    code = Code.FAILED_PRECONDITION
    reason = "WARM_UP_FAILED"


class ReadOnlyModelError(EngineError):
    """What ships with the platform cannot be changed through it."""

    code = Code.FAILED_PRECONDITION
    reason = "MODEL_READ_ONLY"


class BackboneError(EngineError):
    """A head names a backbone that is not there or gives no embeddings."""

    code = Code.FAILED_PRECONDITION
    reason = "BACKBONE_UNUSABLE"


class BackboneInUseError(EngineError):
    """Heads stand on the model; it cannot go before they do."""

    code = Code.FAILED_PRECONDITION
    reason = "BACKBONE_IN_USE"


class EnsembleError(EngineError):
    """An ensemble cannot be computed: one of its models is not loaded, or no longer fits the others."""

    code = Code.FAILED_PRECONDITION
    reason = "ENSEMBLE_BROKEN"


class SequenceRequiredError(EngineError):
    """A model that remembers was asked without saying for what sequence."""

    code = Code.INVALID_ARGUMENT
    reason = "SEQUENCE_REQUIRED"

    def __init__(self) -> None:
        message = "is missing; the model remembers: send sequence_id with each step, and sequence_start with the first"
        super().__init__(
            f"parameters[sequence_id]: {message}", violations=(FieldViolation("parameters[sequence_id]", message),)
        )


class SequenceNotFoundError(EngineError):
    """The sequence is not under way at this engine."""

    code = Code.NOT_FOUND
    reason = "SEQUENCE_NOT_FOUND"


class SequenceExistsError(EngineError):
    """A request begins a sequence that is under way."""

    code = Code.ALREADY_EXISTS
    reason = "SEQUENCE_EXISTS"


class SequencesFullError(EngineError):
    """As many sequences are under way as the model may have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SEQUENCES_FULL"


class SequenceStateError(EngineError):
    """The state of a sequence cannot be kept: it has grown too large, or does not fit the model's own input."""

    code = Code.FAILED_PRECONDITION
    reason = "SEQUENCE_STATE_INVALID"


class StepError(EngineError):
    """A step of an ensemble failed; its code and reason are those of what it failed with."""

    reason = "STEP_FAILED"

    def __init__(self, step: str, cause: TiationError) -> None:
        super().__init__(
            f"step `{step}`: {cause.message}",
            violations=cause.violations,
            retry_after_s=cause.retry_after_s,
            quota=cause.quota,
            **{**cause.metadata, "step": step},
        )
        self.code = cause.code  # type: ignore[misc]  # each instance carries its cause's own
        self.reason = cause.reason  # type: ignore[misc]


class TooDeepError(EngineError):
    """Too many models stand above each other, or one stands on itself."""

    code = Code.FAILED_PRECONDITION
    reason = "MODELS_TOO_DEEP"

    def __init__(self, model: str) -> None:
        super().__init__(
            f"{model}: more than four models stand above each other here, or one of them stands on itself; "
            "name another model in one of their manifests",
            model=model,
        )


class VariantImpossibleError(EngineError):
    """Of this model there is no such variant."""

    code = Code.FAILED_PRECONDITION
    reason = "VARIANT_IMPOSSIBLE"


class VariantsBusyError(EngineError):
    """So many variants are being made that no more may wait."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "VARIANTS_BUSY"


class VariantTimeoutError(EngineError):
    """Making a variant takes too long."""

    code = Code.DEADLINE_EXCEEDED
    reason = "VARIANT_TIMEOUT"


class VariantCrashedError(EngineError):
    """The process that makes a variant was ended."""

    code = Code.FAILED_PRECONDITION
    reason = "VARIANT_CRASHED"


class UploadError(EngineError):
    """The pieces of an upload do not make the files that its header promised."""

    code = Code.INVALID_ARGUMENT
    reason = "UPLOAD_INVALID"


class UploadNotFoundError(EngineError):
    """The tenant has no such upload."""

    code = Code.NOT_FOUND
    reason = "UPLOAD_NOT_FOUND"


class UploadExistsError(EngineError):
    """There is an upload of this id with other files."""

    code = Code.ALREADY_EXISTS
    reason = "UPLOAD_EXISTS"


class UploadBusyError(EngineError):
    """Another call writes to the upload."""

    code = Code.UNAVAILABLE
    reason = "UPLOAD_BUSY"


class TooManyUploadsError(EngineError):
    """The tenant has more unfinished uploads than one may have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_UPLOADS"


class DigestMismatchError(EngineError):
    """A file arrived with other bytes than its SHA-256 says."""

    code = Code.INVALID_ARGUMENT
    reason = "DIGEST_MISMATCH"


class SignatureError(EngineError):
    """A version is not signed by somebody who is trusted, or is not what was signed."""

    code = Code.FAILED_PRECONDITION
    reason = "SIGNATURE_REFUSED"


class StorageUnavailableError(EngineError):
    """The storage that keeps models does not answer, or refuses."""

    code = Code.UNAVAILABLE
    reason = "STORAGE_UNAVAILABLE"


class StorageSettingError(EngineError):
    """The settings of the storage that keeps models cannot be."""

    code = Code.INVALID_ARGUMENT
    reason = "STORAGE_SETTING_INVALID"


class StorageFullError(EngineError):
    """The disk under the state folder has no room."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "STORAGE_FULL"


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


class AnswerUnreadError(EngineError):
    """An answer was not read while it was made, and too much of it waited."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "ANSWER_UNREAD"


class QueueFullError(EngineError):
    """More requests wait for the model than its queue holds."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"


class QueueTimeoutError(EngineError):
    """A request waited for the model as long as it may, and was not begun."""

    code = Code.DEADLINE_EXCEEDED
    reason = "QUEUE_TIMEOUT"


class InferenceTimeoutError(EngineError):
    """A run of the model took longer than one may take."""

    code = Code.DEADLINE_EXCEEDED
    reason = "INFERENCE_TIMEOUT"


class InputRefusedError(EngineError):
    """Well-formed tensors with values or lengths that the model cannot compute with."""

    code = Code.INVALID_ARGUMENT
    reason = "INPUT_REFUSED"


class InferenceFailedError(EngineError):
    """The runtime failed while it computed."""

    code = Code.INTERNAL
    reason = "INFERENCE_FAILED"
