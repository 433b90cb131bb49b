"""What is wrong with training data."""

from collections.abc import Sequence
from typing import Final

from realsr_jax.system.errors import ListError

_SHOWN: Final = 20


class DataError(ListError):
    """What is wrong with training data: one line, and one more for each problem.

    Attributes:
        problems: a line for each file or pair that cannot be used, sorted; empty if the message says it all.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = sorted(problems)
        n_more = len(self.problems) - _SHOWN
        super().__init__(message, [*self.problems[:_SHOWN], *([f"and {n_more} more"] if n_more > 0 else [])])
