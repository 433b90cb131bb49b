"""What is wrong with image files, in one line for the user."""

import contextlib
import os
from collections.abc import Iterator

from realsr_jax.system.errors import MEMORY_TEXT, reason_of


class ImageError(ValueError):
    """What is wrong with a file or a request, in one line for the user.

    What `realsr_jax.images` raises starts with the path where the function was given one, and does not
    otherwise (`check_writable`, `make_result`).
    """


@contextlib.contextmanager
def image_errors(path: str | os.PathLike[str], otherwise: str) -> Iterator[None]:
    """Turns whatever goes wrong with a file into ImageErrors that name it; `otherwise` says what is meant."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: {MEMORY_TEXT}") from error
    except Exception as error:  # broken files make decoders raise nearly anything
        raise ImageError(f"{path}: {reason_of(error, otherwise)}") from error
