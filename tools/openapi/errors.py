"""The one error of the OpenAPI generator. Nothing else."""

__all__ = ["ContractError"]


class ContractError(Exception):
    """A contract says something that REST or OpenAPI cannot."""
