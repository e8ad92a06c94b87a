from buf.validate import validate_pb2 as _validate_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import resource_pb2 as _resource_pb2
from tiation.mesh.v1 import options_pb2 as _options_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RankRequest(_message.Message):
    __slots__ = ("parent", "criteria", "alternatives", "method", "normalisation", "weight_variation", "trial_count", "seed")
    class Method(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        METHOD_UNSPECIFIED: _ClassVar[RankRequest.Method]
        WEIGHTED_SUM: _ClassVar[RankRequest.Method]
        TOPSIS: _ClassVar[RankRequest.Method]
    METHOD_UNSPECIFIED: RankRequest.Method
    WEIGHTED_SUM: RankRequest.Method
    TOPSIS: RankRequest.Method
    class Normalisation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        NORMALISATION_UNSPECIFIED: _ClassVar[RankRequest.Normalisation]
        MIN_MAX: _ClassVar[RankRequest.Normalisation]
        VECTOR: _ClassVar[RankRequest.Normalisation]
    NORMALISATION_UNSPECIFIED: RankRequest.Normalisation
    MIN_MAX: RankRequest.Normalisation
    VECTOR: RankRequest.Normalisation
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVES_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    NORMALISATION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_VARIATION_FIELD_NUMBER: _ClassVar[int]
    TRIAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    parent: str
    criteria: _containers.RepeatedCompositeFieldContainer[Criterion]
    alternatives: _containers.RepeatedCompositeFieldContainer[Alternative]
    method: RankRequest.Method
    normalisation: RankRequest.Normalisation
    weight_variation: float
    trial_count: int
    seed: int
    def __init__(self, parent: _Optional[str] = ..., criteria: _Optional[_Iterable[_Union[Criterion, _Mapping]]] = ..., alternatives: _Optional[_Iterable[_Union[Alternative, _Mapping]]] = ..., method: _Optional[_Union[RankRequest.Method, str]] = ..., normalisation: _Optional[_Union[RankRequest.Normalisation, str]] = ..., weight_variation: _Optional[float] = ..., trial_count: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...

class Criterion(_message.Message):
    __slots__ = ("name", "weight", "direction")
    class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DIRECTION_UNSPECIFIED: _ClassVar[Criterion.Direction]
        BENEFIT: _ClassVar[Criterion.Direction]
        COST: _ClassVar[Criterion.Direction]
    DIRECTION_UNSPECIFIED: Criterion.Direction
    BENEFIT: Criterion.Direction
    COST: Criterion.Direction
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    name: str
    weight: float
    direction: Criterion.Direction
    def __init__(self, name: _Optional[str] = ..., weight: _Optional[float] = ..., direction: _Optional[_Union[Criterion.Direction, str]] = ...) -> None: ...

class Alternative(_message.Message):
    __slots__ = ("name", "values")
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    values: _containers.ScalarMap[str, float]
    def __init__(self, name: _Optional[str] = ..., values: _Optional[_Mapping[str, float]] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("ranked", "sensitivities", "winner_stability", "text")
    RANKED_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITIES_FIELD_NUMBER: _ClassVar[int]
    WINNER_STABILITY_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    ranked: _containers.RepeatedCompositeFieldContainer[Ranked]
    sensitivities: _containers.RepeatedCompositeFieldContainer[Sensitivity]
    winner_stability: float
    text: str
    def __init__(self, ranked: _Optional[_Iterable[_Union[Ranked, _Mapping]]] = ..., sensitivities: _Optional[_Iterable[_Union[Sensitivity, _Mapping]]] = ..., winner_stability: _Optional[float] = ..., text: _Optional[str] = ...) -> None: ...

class Ranked(_message.Message):
    __slots__ = ("name", "place", "score", "contributions", "best_place", "worst_place", "first_share")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    BEST_PLACE_FIELD_NUMBER: _ClassVar[int]
    WORST_PLACE_FIELD_NUMBER: _ClassVar[int]
    FIRST_SHARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    place: int
    score: float
    contributions: _containers.RepeatedCompositeFieldContainer[Contribution]
    best_place: int
    worst_place: int
    first_share: float
    def __init__(self, name: _Optional[str] = ..., place: _Optional[int] = ..., score: _Optional[float] = ..., contributions: _Optional[_Iterable[_Union[Contribution, _Mapping]]] = ..., best_place: _Optional[int] = ..., worst_place: _Optional[int] = ..., first_share: _Optional[float] = ...) -> None: ...

class Contribution(_message.Message):
    __slots__ = ("criterion", "value", "normalised", "weight", "contribution", "distance_to_best", "distance_to_worst")
    CRITERION_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    NORMALISED_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_TO_BEST_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_TO_WORST_FIELD_NUMBER: _ClassVar[int]
    criterion: str
    value: float
    normalised: float
    weight: float
    contribution: float
    distance_to_best: float
    distance_to_worst: float
    def __init__(self, criterion: _Optional[str] = ..., value: _Optional[float] = ..., normalised: _Optional[float] = ..., weight: _Optional[float] = ..., contribution: _Optional[float] = ..., distance_to_best: _Optional[float] = ..., distance_to_worst: _Optional[float] = ...) -> None: ...

class Sensitivity(_message.Message):
    __slots__ = ("criterion", "weight", "changes", "new_weight", "new_winner")
    CRITERION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    NEW_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    NEW_WINNER_FIELD_NUMBER: _ClassVar[int]
    criterion: str
    weight: float
    changes: bool
    new_weight: float
    new_winner: str
    def __init__(self, criterion: _Optional[str] = ..., weight: _Optional[float] = ..., changes: _Optional[bool] = ..., new_weight: _Optional[float] = ..., new_winner: _Optional[str] = ...) -> None: ...
