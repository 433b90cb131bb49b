"""Objects by name, of which each is imported when it is first asked for."""

import importlib
from collections import UserDict
from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")


class Registry(UserDict[str, Value]):
    """A dictionary whose values are objects, or where they are: ``"package.module:NAME"``."""

    def __init__(self, places: Mapping[str, Any]) -> None:
        super().__init__(places)

    def __getitem__(self, name: str) -> Value:
        item: Any = self.data[name]
        if isinstance(item, str):
            module, _, attribute = item.partition(":")
            item = self.data[name] = getattr(importlib.import_module(module), attribute)
        return item
