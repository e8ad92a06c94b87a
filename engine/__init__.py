"""The engine: model repository, inference with dynamic batching, decisions.

Transport and wiring live in `engine.servicers` and `engine.app`; everything else here is plain Python.
"""
