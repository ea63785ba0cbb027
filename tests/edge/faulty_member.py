"""A member in a separate process that makes faults on command: each line of its standard input is one word.

python -m tests.edge.faulty_member NAME PORT   -> its port on standard output, then a line for every word it obeys
"""

import asyncio
import itertools
import subprocess
import sys
import time

import numpy as np

CLASSES = 5
SIZE = 8
EXPORT = "export-one"
OTHER = "export-two"
WORDS = (
    "right",
    "slow:S",
    "tail:S",
    "flap",
    "hang",
    "nan",
    "infinity",
    "batch",
    "classes",
    "whole_numbers",
    "nothing",
    "version",
    "garbage",
    "internal",
    "busy",
    "unknown",
    "gone",
    "leave",
    "return",
    "unready",
    "stopping",
)


def logits(name: str, image: np.ndarray) -> np.ndarray:
    """Return the correct answer of the member with this name, float32 [B, C]."""
    weights = np.random.default_rng(int(name.rpartition("_")[2])).normal(size=(3, CLASSES)) / 64
    return (image.astype(np.float64).mean((1, 2)) @ weights).astype(np.float32)


class Process:
    """Handle of the test on a faulty member's process."""

    def __init__(self, name: str, port: int = 0, module: str = "faulty_member"):
        command = [sys.executable, "-m", f"tests.edge.{module}", name, str(port)]
        self.name = name
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._port = 0

    @property
    def port(self) -> int:
        self._port = self._port or int(self.child.stdout.readline())
        return self._port

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def does(self, word: str) -> None:
        """Change the behaviour, and return when the process has done so."""
        self.address  # noqa: B018 - it has started
        self.child.stdin.write(f"{word}\n")
        self.child.stdin.flush()
        if self.child.stdout.readline() != f"{word}\n":
            raise AssertionError(f"{self.name} did not obey {word}")

    def calls(self) -> int:
        """Return the number of requests since the last change of behaviour."""
        self.does("count")
        return int(self.child.stdout.readline())

    def end(self) -> None:
        self.child.kill()
        self.child.wait()
        self.child.stdin.close()
        self.child.stdout.close()


class Faulty:
    def __init__(self, name: str, port: int):
        self.name, self.port, self.word, self.count = name, port, "right", 0
        self.server = None

    async def obey(self, word: str) -> None:
        if word == "count":
            sys.stdout.write(f"count\n{self.count}\n")
            return
        if word == "leave":
            await self.server.stop(None)
        elif word == "return":
            await self.listen()
        else:
            self.word, self.count = word, 0
        sys.stdout.write(f"{word}\n")

    async def listen(self) -> None:
        import grpc

        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for service, methods in self.services().items():
            handlers = {name: grpc.unary_unary_rpc_method_handler(method) for name, method in methods.items()}
            self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()

    def services(self):
        return {"inference.GRPCInferenceService": {"ModelInfer": self.infer, "ModelReady": self.ready}}

    async def ready(self, content, context):
        from dico_tf.wire import inference_pb2

        if self.word == "hang":
            await asyncio.sleep(3600)
        return inference_pb2.ModelReadyResponse(ready=self.word != "unready").SerializeToString()

    async def infer(self, content, context):
        from dico_tf.edge import messages
        from dico_tf.wire import inference_pb2

        self.count += 1
        request = messages.request_from_message(inference_pb2.ModelInferRequest.FromString(content))
        result = await self.spoiled(logits(self.name, request.inputs["image"]), context)
        export = OTHER if self.word == "version" else EXPORT
        outputs = {} if self.word == "nothing" else {"logits": result}
        answer = messages.InferenceResponse(self.name, outputs, export, request.id, {"export": export})
        return (
            b"\xff\x00garbage" if self.word == "garbage" else messages.response_to_message(answer).SerializeToString()
        )

    async def spoiled(self, result, context):
        import grpc

        code = {
            "internal": "INTERNAL",
            "busy": "RESOURCE_EXHAUSTED",
            "gone": "UNAVAILABLE",
            "unknown": "NOT_FOUND",
            "stopping": "CANCELLED",
        }
        word, _, seconds = self.word.partition(":")
        if word in code:
            await context.abort(getattr(grpc.StatusCode, code[word]), "as told, at /home/of/the/member")
        if word == "slow" or (word == "tail" and self.count % 25 == 0):
            await asyncio.sleep(float(seconds))
        if word == "hang" or (word == "flap" and time.monotonic() % 0.4 < 0.1):
            await asyncio.sleep(3600)
        changed = {
            "nan": lambda: np.where(result == result.max(), np.nan, result),
            "infinity": lambda: result * np.float32(np.inf),
            "batch": lambda: np.concatenate([result, result]),
            "classes": lambda: result[:, 1:],
            "whole_numbers": lambda: result.astype(np.int64),
        }
        return changed.get(word, lambda: result)().astype(np.int64 if word == "whole_numbers" else np.float32)


async def main(kind, name: str, port: str) -> None:
    faulty = kind(name, int(port))
    await faulty.listen()
    sys.stdout.write(f"{faulty.port}\n")
    sys.stdout.flush()
    for _ in itertools.count():
        word = await asyncio.to_thread(sys.stdin.readline)
        if not word:  # the test has gone
            break
        await faulty.obey(word.strip())
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Faulty, *sys.argv[1:]))
