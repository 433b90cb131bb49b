"""What is wrong with training data."""

from collections.abc import Sequence
from typing import Final

_SHOWN: Final = 20


class DataError(ValueError):
    """What is wrong with training data: one line, and one more for each problem.

    Attributes:
        problems: a line for each file or pair that cannot be used, sorted; empty if the message says it all.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = sorted(problems)
        lines = [f"  {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"  and {len(self.problems) - _SHOWN} more")
        super().__init__("\n".join([message, *lines]))
