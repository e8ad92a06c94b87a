"""The shop that examples/connections/shop.yaml describes: tokens, orders in pages, quotas, each order only once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.fakes.web import Asked, Reply, reply

__all__ = ["Shop"]

_PAGE = 2


@dataclass
class Shop:
    """The shop's state.

    Attributes:
        orders: by id.
        keys: the order that each idempotency key made.
        tokens: those that were given and hold.
        busy: how many requests are refused for now.
    """

    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    busy: int = 0

    def __call__(self, asked: Asked) -> Reply:
        if asked.path == "/oauth/token":
            if asked.basic != "client:secret-of-the-shop":
                return reply({"error": "invalid_client"}, 401)
            self.tokens.add(token := f"token-{len(self.tokens) + 1}")
            return reply({"access_token": token, "token_type": "bearer", "expires_in": 3600})
        if asked.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return reply({"code": "unauthorized"}, 401)
        if self.busy:
            self.busy -= 1
            return reply({"code": "quota", "seconds": 1}, 403)
        return self._api(asked, asked.path.removeprefix("/api/v2").split("/")[1:])

    def _api(self, asked: Asked, parts: list[str]) -> Reply:
        match asked.method, parts:
            case "GET", ["health"]:
                return reply({"ok": True})
            case "GET", ["orders"]:
                wanted = [order for order in self.orders.values() if order["state"] == asked.query.get("state", "new")]
                start = int(asked.query.get("after", "0"))
                more = start + _PAGE < len(wanted)
                return reply({"orders": wanted[start : start + _PAGE], "next": str(start + _PAGE) if more else None})
            case "GET", ["orders", order]:
                found = self.orders.get(order)
                return reply(found) if found else reply({"code": "no_such_order"}, 404)
            case "POST", ["customers", customer, "orders"]:
                return self._created(customer, asked)
        return reply({"code": "not_found"}, 404)

    def _created(self, customer: str, asked: Asked) -> Reply:
        key = asked.headers["idempotency-key"]
        if asked.json["note"] == "again":
            return reply({"code": "order_exists", "order": "order-1"}, 409)
        if key not in self.keys:
            made = self.keys[key] = f"order-{len(self.orders) + 1}"
            self.orders[made] = {"id": made, "customer": customer, "state": "new", "lines": asked.json["lines"]}
        return reply(self.orders[self.keys[key]], 201)
