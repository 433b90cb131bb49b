"""Objects by name, of which each is imported when it is first asked for."""

import importlib
from collections import UserDict
from typing import TypeVar

Value = TypeVar("Value")


class Registry(UserDict[str, Value]):
    """A dictionary whose values are objects, or where they are: ``"package.module:NAME"``."""

    def __getitem__(self, name: str) -> Value:
        item = self.data[name]
        if isinstance(item, str):
            module, _, attribute = item.partition(":")
            item = self.data[name] = getattr(importlib.import_module(module), attribute)
        return item
