"""Files that appear complete or not at all."""

import os
import uuid
from pathlib import Path


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a file under another name and renames it.

    Args:
        path: where; an existing file is replaced.
        data: its content; text becomes UTF-8.

    Raises:
        OSError: if it cannot be written; it names `path`.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave an empty file under the final name
        os.replace(temporary, path)
    except OSError as error:  # which names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
