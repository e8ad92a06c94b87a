import datetime

from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.api import client_pb2 as _client_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import field_mask_pb2 as _field_mask_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tiation.mesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Bandit(_message.Message):
    __slots__ = ("name", "uid", "etag", "create_time", "update_time", "labels", "algorithm", "arms", "features", "exploration", "random_share", "regularisation", "decay", "seed", "min_reward", "max_reward", "reward_horizon")
    class Algorithm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        ALGORITHM_UNSPECIFIED: _ClassVar[Bandit.Algorithm]
        LIN_UCB: _ClassVar[Bandit.Algorithm]
        THOMPSON: _ClassVar[Bandit.Algorithm]
    ALGORITHM_UNSPECIFIED: Bandit.Algorithm
    LIN_UCB: Bandit.Algorithm
    THOMPSON: Bandit.Algorithm
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    EXPLORATION_FIELD_NUMBER: _ClassVar[int]
    RANDOM_SHARE_FIELD_NUMBER: _ClassVar[int]
    REGULARISATION_FIELD_NUMBER: _ClassVar[int]
    DECAY_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    MIN_REWARD_FIELD_NUMBER: _ClassVar[int]
    MAX_REWARD_FIELD_NUMBER: _ClassVar[int]
    REWARD_HORIZON_FIELD_NUMBER: _ClassVar[int]
    name: str
    uid: str
    etag: str
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    labels: _containers.ScalarMap[str, str]
    algorithm: Bandit.Algorithm
    arms: _containers.RepeatedCompositeFieldContainer[Arm]
    features: _containers.RepeatedCompositeFieldContainer[Feature]
    exploration: float
    random_share: float
    regularisation: float
    decay: float
    seed: int
    min_reward: float
    max_reward: float
    reward_horizon: _duration_pb2.Duration
    def __init__(self, name: _Optional[str] = ..., uid: _Optional[str] = ..., etag: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., labels: _Optional[_Mapping[str, str]] = ..., algorithm: _Optional[_Union[Bandit.Algorithm, str]] = ..., arms: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ..., features: _Optional[_Iterable[_Union[Feature, _Mapping]]] = ..., exploration: _Optional[float] = ..., random_share: _Optional[float] = ..., regularisation: _Optional[float] = ..., decay: _Optional[float] = ..., seed: _Optional[int] = ..., min_reward: _Optional[float] = ..., max_reward: _Optional[float] = ..., reward_horizon: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("id", "title")
    ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    id: str
    title: str
    def __init__(self, id: _Optional[str] = ..., title: _Optional[str] = ...) -> None: ...

class Feature(_message.Message):
    __slots__ = ("name", "type", "min", "max", "categories")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        TYPE_UNSPECIFIED: _ClassVar[Feature.Type]
        NUMBER: _ClassVar[Feature.Type]
        CATEGORY: _ClassVar[Feature.Type]
        FLAG: _ClassVar[Feature.Type]
    TYPE_UNSPECIFIED: Feature.Type
    NUMBER: Feature.Type
    CATEGORY: Feature.Type
    FLAG: Feature.Type
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: Feature.Type
    min: float
    max: float
    categories: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., type: _Optional[_Union[Feature.Type, str]] = ..., min: _Optional[float] = ..., max: _Optional[float] = ..., categories: _Optional[_Iterable[str]] = ...) -> None: ...

class GetBanditRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListBanditsRequest(_message.Message):
    __slots__ = ("parent", "page_size", "page_token")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    parent: str
    page_size: int
    page_token: str
    def __init__(self, parent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListBanditsResponse(_message.Message):
    __slots__ = ("bandits", "next_page_token")
    BANDITS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    bandits: _containers.RepeatedCompositeFieldContainer[Bandit]
    next_page_token: str
    def __init__(self, bandits: _Optional[_Iterable[_Union[Bandit, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CreateBanditRequest(_message.Message):
    __slots__ = ("parent", "bandit_id", "bandit", "request_id", "validate_only")
    PARENT_FIELD_NUMBER: _ClassVar[int]
    BANDIT_ID_FIELD_NUMBER: _ClassVar[int]
    BANDIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    parent: str
    bandit_id: str
    bandit: Bandit
    request_id: str
    validate_only: bool
    def __init__(self, parent: _Optional[str] = ..., bandit_id: _Optional[str] = ..., bandit: _Optional[_Union[Bandit, _Mapping]] = ..., request_id: _Optional[str] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpdateBanditRequest(_message.Message):
    __slots__ = ("bandit", "update_mask", "validate_only")
    BANDIT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    bandit: Bandit
    update_mask: _field_mask_pb2.FieldMask
    validate_only: bool
    def __init__(self, bandit: _Optional[_Union[Bandit, _Mapping]] = ..., update_mask: _Optional[_Union[_field_mask_pb2.FieldMask, _Mapping]] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class DeleteBanditRequest(_message.Message):
    __slots__ = ("name", "etag")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    name: str
    etag: str
    def __init__(self, name: _Optional[str] = ..., etag: _Optional[str] = ...) -> None: ...

class ChooseRequest(_message.Message):
    __slots__ = ("name", "context", "top_k")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    name: str
    context: _struct_pb2.Struct
    top_k: int
    def __init__(self, name: _Optional[str] = ..., context: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., top_k: _Optional[int] = ...) -> None: ...

class ChooseResponse(_message.Message):
    __slots__ = ("choice_id", "arm", "probability", "random", "scores", "contributions", "text")
    CHOICE_ID_FIELD_NUMBER: _ClassVar[int]
    ARM_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    RANDOM_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    choice_id: str
    arm: str
    probability: float
    random: bool
    scores: _containers.RepeatedCompositeFieldContainer[ArmScore]
    contributions: _containers.RepeatedCompositeFieldContainer[FeatureContribution]
    text: str
    def __init__(self, choice_id: _Optional[str] = ..., arm: _Optional[str] = ..., probability: _Optional[float] = ..., random: _Optional[bool] = ..., scores: _Optional[_Iterable[_Union[ArmScore, _Mapping]]] = ..., contributions: _Optional[_Iterable[_Union[FeatureContribution, _Mapping]]] = ..., text: _Optional[str] = ...) -> None: ...

class ArmScore(_message.Message):
    __slots__ = ("arm", "score", "expected_reward", "uncertainty", "probability")
    ARM_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REWARD_FIELD_NUMBER: _ClassVar[int]
    UNCERTAINTY_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    arm: str
    score: float
    expected_reward: float
    uncertainty: float
    probability: float
    def __init__(self, arm: _Optional[str] = ..., score: _Optional[float] = ..., expected_reward: _Optional[float] = ..., uncertainty: _Optional[float] = ..., probability: _Optional[float] = ...) -> None: ...

class FeatureContribution(_message.Message):
    __slots__ = ("feature", "contribution")
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    feature: str
    contribution: float
    def __init__(self, feature: _Optional[str] = ..., contribution: _Optional[float] = ...) -> None: ...

class BatchChooseRequest(_message.Message):
    __slots__ = ("name", "contexts", "top_k")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    name: str
    contexts: _containers.RepeatedCompositeFieldContainer[_struct_pb2.Struct]
    top_k: int
    def __init__(self, name: _Optional[str] = ..., contexts: _Optional[_Iterable[_Union[_struct_pb2.Struct, _Mapping]]] = ..., top_k: _Optional[int] = ...) -> None: ...

class BatchChooseResponse(_message.Message):
    __slots__ = ("choices",)
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    choices: _containers.RepeatedCompositeFieldContainer[ChooseResponse]
    def __init__(self, choices: _Optional[_Iterable[_Union[ChooseResponse, _Mapping]]] = ...) -> None: ...

class RewardRequest(_message.Message):
    __slots__ = ("name", "choice_id", "reward")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHOICE_ID_FIELD_NUMBER: _ClassVar[int]
    REWARD_FIELD_NUMBER: _ClassVar[int]
    name: str
    choice_id: str
    reward: float
    def __init__(self, name: _Optional[str] = ..., choice_id: _Optional[str] = ..., reward: _Optional[float] = ...) -> None: ...

class RewardResponse(_message.Message):
    __slots__ = ("arm", "learnt")
    ARM_FIELD_NUMBER: _ClassVar[int]
    LEARNT_FIELD_NUMBER: _ClassVar[int]
    arm: str
    learnt: bool
    def __init__(self, arm: _Optional[str] = ..., learnt: _Optional[bool] = ...) -> None: ...

class ReportBanditRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ReportBanditResponse(_message.Message):
    __slots__ = ("choice_count", "reward_count", "arms")
    CHOICE_COUNT_FIELD_NUMBER: _ClassVar[int]
    REWARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    choice_count: int
    reward_count: int
    arms: _containers.RepeatedCompositeFieldContainer[ArmReport]
    def __init__(self, choice_count: _Optional[int] = ..., reward_count: _Optional[int] = ..., arms: _Optional[_Iterable[_Union[ArmReport, _Mapping]]] = ...) -> None: ...

class ArmReport(_message.Message):
    __slots__ = ("arm", "reward_count", "mean_reward", "weights", "always_reward", "effective_count")
    ARM_FIELD_NUMBER: _ClassVar[int]
    REWARD_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_REWARD_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    ALWAYS_REWARD_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_COUNT_FIELD_NUMBER: _ClassVar[int]
    arm: str
    reward_count: float
    mean_reward: float
    weights: _containers.RepeatedCompositeFieldContainer[FeatureContribution]
    always_reward: float
    effective_count: float
    def __init__(self, arm: _Optional[str] = ..., reward_count: _Optional[float] = ..., mean_reward: _Optional[float] = ..., weights: _Optional[_Iterable[_Union[FeatureContribution, _Mapping]]] = ..., always_reward: _Optional[float] = ..., effective_count: _Optional[float] = ...) -> None: ...
