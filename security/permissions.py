"""The permissions that exist, as the contracts say, and whether a role asks for ones that do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from mesh.errors import InvalidError
from mesh.permissions import covers

__all__ = ["PermissionBook"]


class PermissionBook:
    """Knows every permission.

    Args:
        permissions: those that some method needs.
    """

    def __init__(self, permissions: Iterable[str]) -> None:
        self._known = sorted(set(permissions))

    def check_pattern(self, pattern: str, field: str) -> None:
        """Refuse a permission that does not exist, and a pattern that stands for none.

        Raises:
            InvalidError: with the nearest one.
        """
        if pattern not in self._known and not any(covers(pattern, known) for known in self._known):
            raise InvalidError(field, f"there is no permission `{pattern}`{self._hint(pattern)}", permission=pattern)

    def check(self, permission: str, field: str) -> None:
        """Refuse a permission that does not exist; patterns are none.

        Raises:
            InvalidError: with the nearest one.
        """
        if permission not in self._known:
            raise InvalidError(
                field, f"there is no permission `{permission}`{self._hint(permission)}", permission=permission
            )

    def _hint(self, permission: str) -> str:
        near = get_close_matches(permission, self._known, n=1, cutoff=0.5)
        return f"; did you mean `{near[0]}`?" if near else "; a permission reads service.resource.verb"
