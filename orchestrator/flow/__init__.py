"""Flows: the part of the CNCF Serverless Workflow DSL 1.0 that agents are written in."""

from orchestrator.flow.parse import parse_flow
from orchestrator.flow.steps import Flow

__all__ = ["Flow", "parse_flow"]
