"""Objects by name, of which each is imported when it is first asked for."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")


class Registry(Mapping[str, Value]):
    """A mapping whose values are objects, or where they are: ``"package.module:NAME"``."""

    def __init__(self, places: Mapping[str, Value | str]) -> None:
        self._items: dict[str, Any] = dict(places)

    def __getitem__(self, name: str) -> Value:
        item = self._items[name]
        if isinstance(item, str):
            module, _, attribute = item.partition(":")
            item = self._items[name] = getattr(importlib.import_module(module), attribute)
        return item

    def __setitem__(self, name: str, item: Value | str) -> None:
        self._items[name] = item

    def __delitem__(self, name: str) -> None:
        del self._items[name]

    def __contains__(self, name: object) -> bool:  # without the import that `Mapping` would make
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
