"""One model served over gRPC and HTTP, with the same limits on both, and a clean shutdown."""

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
CLOSE_SECONDS = 1.0  # time for idle clients to close their connections after the last response


class Listener:
    """The gRPC and HTTP ports of one process.

    The constructor checks certificates, token and ports. It raises UserError if one cannot be used, or if other
    machines could connect without TLS or authentication and --insecure does not allow it.
    """

    def __init__(self, options: ServerOptions):
        self.options = options
        self.limits = Limits(
            request_bytes=options.max_request_bytes,
            pixels=options.max_pixels,
            batch=options.max_batch,
            concurrency=options.max_concurrency,
        )
        self._tls = tls.ServerTLS(cert=options.tls_cert, key=options.tls_key, client_ca=options.tls_client_ca)
        self._token = access.token(options.token_file)
        authenticated = bool(self._token or options.tls_client_ca)
        access.check_address(options.host, tls=bool(self._tls), authenticated=authenticated, insecure=options.insecure)
        for flag in ("port", "http_port"):
            if getattr(options, flag) >= 0:
                access.check_free(options.host, getattr(options, flag), flag)
        self.readiness = Readiness()
        self.metrics = Metrics()
        self._request_metrics = RequestMetrics(self.metrics)

    async def start(self, service: ModelService) -> dict[str, str]:
        """Serve a model and report it as ready; return {"grpc": address, "http": address}, without "http" if it is off.

        SIGTERM and SIGINT end `wait_for_stop`. Raises UserError if another process took a port after the constructor's
        check.
        """
        self._stop_requested = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stop_requested.set)
        addresses = {"grpc": access.address(self.options.host, await self._start_grpc(service))}
        self._http = None
        if self.options.http_port >= 0:
            addresses["http"] = access.address(self.options.host, await self._start_http(service))
        self.readiness.set(True)
        return addresses

    async def _start_grpc(self, service: ModelService) -> int:
        options, seconds = self.options, self.options.timeout_ms / 1000
        self._grpc = grpc_server.create(options.max_concurrency, options.max_request_bytes, self._token)
        public_limit = ConcurrencyLimit(grpc_server.PUBLIC_CALLS)
        self._inference = grpc_server.InferenceServicer(
            service, self.readiness, self._request_metrics, seconds, public_limit
        )
        health = grpc_server.HealthServicer(service, self.readiness, public_limit)
        self._grpc.add_generic_rpc_handlers((self._inference.handler(), health.handler()))
        address = access.address(options.host, options.port)
        try:
            if self._tls:
                port = self._grpc.add_secure_port(address, self._tls.credentials())
            else:
                port = self._grpc.add_insecure_port(address)
        except RuntimeError:
            raise self._port_error("port", options.port) from None
        await self._grpc.start()
        return port

    async def _start_http(self, service: ModelService) -> int:
        options, seconds = self.options, self.options.timeout_ms / 1000
        routes = rest.RestApi(service, self.readiness, self.metrics, self._request_metrics, seconds).routes()
        self._http = http_server.HttpServer(
            routes,
            request_bytes=options.max_request_bytes,
            connections=4 * options.max_concurrency,
            token=self._token,
            public=rest.PUBLIC,
        )
        try:
            return await self._http.start(options.host, options.http_port, self._tls.context() if self._tls else None)
        except OSError:
            await self._grpc.stop(None)
            raise self._port_error("http_port", options.http_port) from None

    def _port_error(self, flag: str, port: int) -> UserError:
        return UserError(
            f"--{flag}={port} on --host={self.options.host} cannot be listened on: another process has just taken it; "
            "give another port"
        )

    async def stop(self) -> None:
        """Report not ready, finish the current requests within --stop_seconds, and close all connections."""
        self.readiness.set(False, ended=True)
        grace = self.options.stop_seconds
        await asyncio.gather(self._stop_grpc(grace), *([self._http.stop(grace)] if self._http else []))

    async def _stop_grpc(self, grace: float) -> None:
        """Stop soon after the last response: gRPC alone would wait the whole time for idle connections to close."""
        stopping = asyncio.create_task(self._grpc.stop(grace))
        while self._inference.active and not stopping.done():
            await asyncio.wait({stopping}, timeout=0.05)
        await asyncio.wait({stopping}, timeout=min(CLOSE_SECONDS, grace))
        await self._grpc.stop(None)
        await stopping

    async def wait_for_stop(self) -> None:
        """Return after SIGTERM or SIGINT."""
        await self._stop_requested.wait()
        LOG.info("stopping")
