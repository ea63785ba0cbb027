"""`serve.py local`: one worker per branch and their gateway on one machine. Workers that end are not restarted."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from dico_tf import child_process
from dico_tf.edge import gateway, options
from dico_tf.edge.members.addresses import Address
from dico_tf.edge.members.committee import PROBE_SECONDS, CommitteePolicy, connect
from dico_tf.edge.server import access
from dico_tf.edge.server.listener import Listener
from dico_tf.errors import UserError
from dico_tf.files import manifest

WORKER = [*child_process.PYTHON, "dico_tf.cli", "serve", "worker"]
GRACE = 5.0  # seconds between SIGTERM and SIGKILL to a worker
_SHARED_FLAGS = ("token_file", "max_request_bytes", "max_batch", "max_concurrency")  # also given to the workers


def run(settings: options.LocalOptions, server: options.ServerOptions, print_line: Callable[[str], None]) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent process.

    Gives `print_line` one line of JSON when listening and, if HTTP is on, a line with a command to try. Raises
    UserError if it cannot start: the export, a worker or the listener cannot be used.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    export = manifest.load(os.path.abspath(settings.manifest))
    quorum = settings.majority(len(export.branches))
    policy = CommitteePolicy(quorum=quorum, seconds=settings.deadline_ms / 1000, cascade=settings.cascade)
    listener = Listener(server)
    # SIGTERM while workers start must end them too: SystemExit runs the cleanup in `workers`.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    shared = [f"--{name}={getattr(server, name)}" for name in _SHARED_FLAGS]
    with workers(export, [f"--format={settings.format}", *shared]) as places:
        asyncio.run(_serve(export, places, policy, listener, access.token(server.token_file), print_line))


async def _serve(
    export: manifest.Manifest,
    places: dict[str, str],
    policy: CommitteePolicy,
    listener: Listener,
    token: str,
    print_line: Callable[[str], None],
) -> None:
    addresses = {name: [Address(place)] for name, place in places.items()}
    committee = connect(export, addresses, policy, token=token)

    def on_listening(status: dict) -> None:
        print_line(json.dumps({**status, "members": places}))
        if "http" in status:
            print_line(curl(status["http"], listener.options, bool(token)))

    stopping = asyncio.create_task(_stop_with_parent(os.getppid()))
    await gateway.serve(committee, listener, on_listening)
    stopping.cancel()


def curl(address: str, server: options.ServerOptions, token: bool) -> str:
    """Return a line "try: curl ..." with a command that sends IMAGE.jpg to the gateway, for curl of Linux and macOS.

    With `token`, the command sends the bearer token in $DICO_TF_TOKEN.
    """
    scheme = "https" if server.tls_cert else "http"
    flags = ' -H "authorization: Bearer $DICO_TF_TOKEN"' if token else ""
    flags += " --cacert CA.pem" if server.tls_cert else ""
    url = f"{scheme}://{address}/v2/models/{manifest.COMMITTEE}/infer"
    return f"try: curl{flags} -H content-type:image/jpeg --data-binary @IMAGE.jpg {url}"


@contextlib.contextmanager
def workers(export: manifest.Manifest, flags: Sequence[str]) -> Iterator[dict[str, str]]:
    """Context manager that runs a worker with `flags` for each branch, until the block ends.

    Yields {branch: host:port} when all are ready. Raises UserError if one does not start.
    """
    path = export.folder / manifest.NAME
    with contextlib.ExitStack() as stack:
        started = {}
        for name in export.branches:
            command = [*WORKER, f"--manifest={path}", f"--member={name}", *flags, "--http_port=-1"]
            child = child_process.start(command, stdout=subprocess.PIPE)
            stack.callback(_end, child)
            started[name] = child
        yield {name: _wait_until_ready(name, child) for name, child in started.items()}
        for child in started.values():
            child.send_signal(signal.SIGTERM)  # to all first, so that they end at the same time


def _wait_until_ready(name: str, child: subprocess.Popen) -> str:
    """Return the gRPC address from the worker's ready line. Raises UserError if the worker ends before it."""
    line = child.stdout.readline()
    if not line:
        raise UserError(f"the worker of {name} did not start: its error message is above")
    return json.loads(line)["grpc"]


def _end(child: subprocess.Popen) -> None:
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


async def _stop_with_parent(parent_pid: int) -> None:
    """Wait until this process's parent has ended, then send SIGTERM to this process."""
    while os.getppid() == parent_pid:
        await asyncio.sleep(PROBE_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
