"""Models in memory, ready to answer: what each kind of manifest becomes.

Where their files come from is `engine.repository.repository`; who may ask is decided before a request gets here.
"""

from __future__ import annotations

from engine.servables.base import Classified, Inference, Servable
from engine.servables.context import ModelContext
from engine.servables.detector import Detected, Detector, Sought
from engine.servables.embedder import Embedder
from engine.servables.encoder_classifier import EncoderClassifier
from engine.servables.ensemble import Ensemble
from engine.servables.entailment import PairZeroShot
from engine.servables.image_classifier import ImageClassifier
from engine.servables.onnx_model import OnnxModel
from engine.servables.sequence_model import SequenceModel
from engine.servables.tabular import TabularModel
from engine.servables.text_classifier import TextClassifier
from engine.servables.text_generator import TextGenerator
from engine.servables.token_classifier import Extracted, TokenClassifier
from engine.servables.zero_shot import EncoderZeroShot, ZeroShot

__all__ = [
    "Classified",
    "Detected",
    "Detector",
    "Embedder",
    "EncoderClassifier",
    "EncoderZeroShot",
    "Ensemble",
    "Extracted",
    "ImageClassifier",
    "Inference",
    "ModelContext",
    "OnnxModel",
    "PairZeroShot",
    "SequenceModel",
    "Servable",
    "Sought",
    "TabularModel",
    "TextClassifier",
    "TextGenerator",
    "TokenClassifier",
    "ZeroShot",
]
