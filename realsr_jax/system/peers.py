"""The processes of one run: how they meet, and how all of them end within seconds when one dies.

Every process keeps a connection to process 0, on which the last word is how it ended. A connection that
closes without a word means that its process was killed. JAX itself notices after a minute and a half, and
aborts with a stack trace.
"""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Final

import jax

from realsr_jax.system.errors import UsageError, first_line
from realsr_jax.system.processes import count_cores
from realsr_jax.system.terminal import complain

_NAME: Final = "realsr-train"
_KEY: Final = "realsr_jax/peers"
_DONE: Final = "done"
_PATIENCE: Final = 60.0  # seconds for the processes to connect, once JAX has joined them
_GRACE: Final = 3.0  # seconds in which a collective that fails may turn out to be another process's death


class Peers:
    """The connections of this process to others: of process 0 to all, of each other one to process 0."""

    def __init__(self, connections: dict[int, socket.socket]) -> None:
        """Listens to connections, each by the index of the process at its other end."""
        self._connections = connections
        self._ending = threading.Lock()
        for index, connection in connections.items():
            threading.Thread(target=self._listen, args=(index, connection), daemon=True).start()

    def _listen(self, index: int, connection: socket.socket) -> None:
        """Waits for the last word of a process, and ends this one unless all was well."""
        try:
            word = connection.makefile().readline().strip()
        except OSError:
            word = ""
        if word != _DONE:
            self._ending.acquire()  # for good: the first reason is the one to tell
            again = "the same command on all hosts continues from the last checkpoint"
            reason = word or f"process {index} has died; {again}"
            self.leave(reason)
            complain(_NAME, reason)
            os._exit(1)

    def leave(self, word: str) -> None:
        """Says this process's last word to the others."""
        for connection in self._connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(f"{word}\n".encode())


@contextlib.contextmanager
def joined(
    coordinator: str | None = None, n_processes: int | None = None, index: int | None = None
) -> Iterator[int]:
    """Takes part in a run of several processes; inside, the death of one is the end of all.

    Where an error ends the context, the caller prints it and ends with `os._exit`, as JAX would wait for the
    others at a regular exit.

    Args:
        coordinator: ``HOST:PORT`` where process 0 listens; None, like the rest, where a cluster tells.
        n_processes: how many there are.
        index: which this is.

    Yields:
        How many cores this process may use, where several of the run share a machine.

    Raises:
        UsageError: if they do not come together.
    """
    # It would swallow SIGTERM for good.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        address = _relay(coordinator) if coordinator and index else coordinator
        jax.distributed.initialize(address, n_processes, index)
        peers = Peers(_connect(coordinator))
        n_cores = _share_cores()
    except Exception as error:  # of many kinds
        raise UsageError(
            f"the processes cannot be joined: {first_line(error)}; give --coordinator, --num_processes and "
            "--process_id"
        ) from error
    try:
        yield n_cores
    except BaseException:
        time.sleep(_GRACE)
        peers.leave(f"process {jax.process_index()} has failed, and says why")
        raise
    peers.leave(_DONE)


def _connect(coordinator: str | None) -> dict[int, socket.socket]:
    """Connects process 0 with every other one."""
    from jax._src.distributed import global_state  # no public name for what the processes tell each other

    index, n_processes, client = global_state.process_id, global_state.num_processes, global_state.client
    assert client is not None
    if index == 0:
        with socket.create_server(("", 0), backlog=n_processes) as server:
            server.settimeout(_PATIENCE)
            client.key_value_set(_KEY, str(server.getsockname()[1]))
            accepted = [server.accept()[0] for _ in range(n_processes - 1)]
        connections = {int(_read_line(connection)): connection for connection in accepted}
    else:
        host = str(coordinator or global_state.coordinator_address).rpartition(":")[0].strip("[]")
        port = int(client.blocking_key_value_get(_KEY, int(_PATIENCE * 1000)))
        connections = {0: socket.create_connection((host, port), _PATIENCE)}
        connections[0].sendall(f"{index}\n".encode())
    for connection in connections.values():
        connection.settimeout(None)
    return connections


def _share_cores() -> int:
    """Returns this process's share of the cores that it may use, at least 1: others may use the same ones."""
    from jax._src.distributed import global_state

    client = global_state.client
    assert client is not None
    affinity = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "all"
    place = f"{socket.gethostname()} {affinity}"
    client.key_value_set(f"{_KEY}/place/{global_state.process_id}", place)
    patience = int(_PATIENCE * 1000)
    places = [
        client.blocking_key_value_get(f"{_KEY}/place/{index}", patience)
        for index in range(global_state.num_processes)
    ]
    return max(1, count_cores() // places.count(place))


def _read_line(connection: socket.socket) -> str:
    """Reads a line, and nothing of what follows."""
    line = b""
    while not line.endswith(b"\n"):
        line += connection.recv(1) or b"\n"
    return line.decode()


def _relay(coordinator: str) -> str:
    """Opens a way to JAX's coordinator that stays open when the coordinator dies.

    If JAX saw its connection close, it would abort before this process can say what has happened.

    Returns:
        The address, of this host.
    """
    server = socket.create_server(("localhost", 0))
    threading.Thread(target=_serve, args=(server, coordinator), daemon=True).start()
    return f"localhost:{server.getsockname()[1]}"


def _serve(server: socket.socket, coordinator: str) -> None:
    host, _, port = coordinator.rpartition(":")
    while True:
        near, _ = server.accept()
        far = _reach((host.strip("[]"), int(port)))
        for ends in ((near, far), (far, near)):
            threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _reach(address: tuple[str, int]) -> socket.socket:
    """Connects to where someone may not listen yet; JAX gives up in time."""
    while True:
        with contextlib.suppress(OSError):
            return socket.create_connection(address)
        time.sleep(0.2)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
