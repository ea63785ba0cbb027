"""Two ways in to one service, gRPC and HTTP, both guarded alike; and the way out."""

import asyncio
import logging
import signal

from dico_tf.edge.options import ServerOptions
from dico_tf.edge.server import access, grpc_server, http_server, rest, tls
from dico_tf.edge.server.limits import ConcurrencyLimit, Limits
from dico_tf.edge.server.metrics import Metrics
from dico_tf.edge.service import ModelService, Readiness, RequestMetrics
from dico_tf.errors import UserError

LOG = logging.getLogger(__name__)
GOODBYE = 1.0  # seconds for those who are connected to close, once all is answered


class Listener:
    """Knows from the beginning who may come in, and refuses to be left open by mistake."""

    def __init__(self, asked: ServerOptions):
        self.asked = asked
        self.limits = Limits(
            request_bytes=asked.max_request_bytes, pixels=asked.max_pixels, batch=asked.max_batch,
            concurrency=asked.max_concurrency,
        )  # fmt: skip
        self._tls = tls.ServerTLS(cert=asked.tls_cert, key=asked.tls_key, client_ca=asked.tls_client_ca)
        self._token = access.token(asked.token_file)
        known = bool(self._token or asked.tls_client_ca)
        access.check_address(asked.host, tls=bool(self._tls), known=known, insecure=asked.insecure)
        for flag in ("port", "http_port"):
            if getattr(asked, flag) >= 0:
                access.check_free(asked.host, getattr(asked, flag), flag)
        self.readiness = Readiness()
        self.metrics = Metrics()
        self._numbers = RequestMetrics(self.metrics)

    async def open(self, service: ModelService) -> dict[str, str]:
        """{"grpc": address, "http": address}; from now on the service is ready, and ends well when told to stop."""
        self._told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._told.set)
        found = {"grpc": access.address(self.asked.host, await self._open_grpc(service))}
        self._http = None
        if self.asked.http_port >= 0:
            found["http"] = access.address(self.asked.host, await self._open_http(service))
        self.readiness.set(True)
        return found

    async def _open_grpc(self, service: ModelService) -> int:
        asked, seconds = self.asked, self.asked.timeout_ms / 1000
        self._grpc = grpc_server.server(asked.max_concurrency, asked.max_request_bytes, self._token)
        strangers = ConcurrencyLimit(grpc_server.STRANGERS)
        self._inference = grpc_server.InferenceServicer(service, self.readiness, self._numbers, seconds, strangers)
        health = grpc_server.HealthServicer(service, self.readiness, strangers)
        self._grpc.add_generic_rpc_handlers((self._inference.handler(), health.handler()))
        address = access.address(asked.host, asked.port)
        try:
            if self._tls:
                port = self._grpc.add_secure_port(address, self._tls.credentials())
            else:
                port = self._grpc.add_insecure_port(address)
        except RuntimeError:
            raise self._taken("port", asked.port) from None
        await self._grpc.start()
        return port

    async def _open_http(self, service: ModelService) -> int:
        asked, seconds = self.asked, self.asked.timeout_ms / 1000
        routes = rest.RestApi(service, self.readiness, self.metrics, self._numbers, seconds).routes()
        self._http = http_server.HttpServer(
            routes, request_bytes=asked.max_request_bytes, connections=4 * asked.max_concurrency, token=self._token,
            public=rest.PUBLIC,
        )  # fmt: skip
        try:
            return await self._http.start(asked.host, asked.http_port, self._tls.context() if self._tls else None)
        except OSError:
            await self._grpc.stop(None)
            raise self._taken("http_port", asked.http_port) from None

    def _taken(self, flag: str, port: int) -> UserError:
        return UserError(f"--{flag}={port} on --host={self.asked.host} cannot be listened on any more: it was taken")

    async def close(self) -> None:
        """Not ready any more; what is being answered is finished within --stop_seconds."""
        self.readiness.set(False, ended=True)
        grace = self.asked.stop_seconds
        await asyncio.gather(self._stop_grpc(grace), *([self._http.stop(grace)] if self._http else []))

    async def _stop_grpc(self, grace: float) -> None:
        """gRPC by itself would wait all that time for a connection whose other end does not close it."""
        stopping = asyncio.create_task(self._grpc.stop(grace))
        while self._inference.inside and not stopping.done():
            await asyncio.wait({stopping}, timeout=0.05)
        await asyncio.wait({stopping}, timeout=min(GOODBYE, grace))
        await self._grpc.stop(None)
        await stopping

    async def until_told_to_stop(self) -> None:
        """SIGTERM or SIGINT."""
        await self._told.wait()
        LOG.info("stopping")
