"""A worker for each branch and their gateway on one machine: `python serve.py local`. Nothing is restarted."""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from dico_tf.edge import gateway, options
from dico_tf.edge.members.addresses import Address
from dico_tf.edge.members.committee import PROBED_EVERY, CommitteePolicy, connect
from dico_tf.edge.server import access
from dico_tf.edge.server.listener import Listener
from dico_tf.errors import UserError
from dico_tf.files import manifest

WORKER = [sys.executable, "-P", "-m", "dico_tf.cli", "serve", "worker"]  # -P: finds no modules in its folder
GRACE = 5.0  # seconds between asking a worker to end and ending it
_PASSED_ON = ("token_file", "max_request_bytes", "max_batch", "max_concurrency")  # flags that workers share
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux


def run(asked: options.LocalOptions, door: options.ServerOptions, say: Callable[[str], None]) -> None:
    """Until SIGTERM, SIGINT or its parent's death; `say` is told a line of JSON, and one for people."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    found = manifest.load(os.path.abspath(asked.manifest))
    quorum = asked.majority(len(found.branches))
    rules = CommitteePolicy(quorum=quorum, seconds=asked.deadline_ms / 1000, cascade=asked.cascade)
    entry = Listener(door)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # while workers start: they end too
    shared = [f"--{name}={getattr(door, name)}" for name in _PASSED_ON]
    with workers(found, [f"--format={asked.format}", *shared]) as places:
        asyncio.run(_serve(found, places, rules, entry, access.token(door.token_file), say))


async def _serve(
    found: manifest.Manifest,
    places: dict[str, str],
    rules: CommitteePolicy,
    door: Listener,
    token: str,
    say: Callable[[str], None],
) -> None:
    addresses = {name: [Address(place)] for name, place in places.items()}
    committee = connect(found, addresses, rules, token=token)

    def listening(told: dict) -> None:
        say(json.dumps({**told, "members": places}))
        if "http" in told:
            say(curl(told["http"], door.asked, bool(token)))

    end = asyncio.create_task(_end_with(os.getppid()))
    await gateway.serve(committee, door, listening)
    end.cancel()


def curl(place: str, asked: options.ServerOptions, token: bool) -> str:
    """A line to try; Linux's and Apple's curl know these words."""
    scheme = "https" if asked.tls_cert else "http"
    more = ' -H "authorization: Bearer $DICO_TF_TOKEN"' if token else ""
    more += " --cacert CA.pem" if asked.tls_cert else ""
    url = f"{scheme}://{place}/v2/models/{manifest.COMMITTEE}/infer"
    return f"try: curl{more} -H content-type:image/jpeg --data-binary @PICTURE.jpg {url}"


@contextlib.contextmanager
def workers(found: manifest.Manifest, more: Sequence[str]) -> Iterator[dict[str, str]]:
    """{branch: host:port} of a process for each branch, all of them ready; they end with this one."""
    path = found.folder / manifest.NAME
    with contextlib.ExitStack() as stack:
        started = {}
        for name in found.branches:
            child = _child([*WORKER, f"--manifest={path}", f"--member={name}", *more, "--http_port=-1"])
            stack.callback(_end, child)
            started[name] = child
        yield {name: _ready(name, child) for name, child in started.items()}
        for child in started.values():
            child.send_signal(signal.SIGTERM)  # all of them, and only then each is waited for


def _child(command: Sequence[str]) -> subprocess.Popen:
    """Beyond the reach of the terminal's Ctrl-C, so that the gateway ends first; but not of our death."""
    mine = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def with_us() -> None:
        if libc:
            libc.prctl(_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != mine:  # we died in between
            os._exit(1)

    # The modules that this process finds, the child finds, too: also where the package is not installed.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, start_new_session=True, preexec_fn=with_us, env=environment
    )


def _ready(name: str, child: subprocess.Popen) -> str:
    line = child.stdout.readline()
    if not line:
        raise UserError(f"the worker of {name} did not start, and says above why")
    return json.loads(line)["grpc"]


def _end(child: subprocess.Popen) -> None:
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    child.stdout.close()


async def _end_with(parent: int) -> None:
    """Whoever started us has ended without a word: so do we."""
    while os.getppid() == parent:
        await asyncio.sleep(PROBED_EVERY)
    os.kill(os.getpid(), signal.SIGTERM)
