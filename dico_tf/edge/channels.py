"""gRPC channels to members and gateways: long-lived, quick to reconnect, without gRPC's own retries."""

import grpc

from dico_tf.edge.server import tls

MESSAGE_BYTES = 64 * 2**20
KEEPALIVE_MS = 10_000  # time between pings while a call waits for its response
OPTIONS = [
    ("grpc.enable_retries", 0),  # RemoteMember retries within a budget
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # timeout of one attempt to connect
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # closing a channel closes its connection
    # A device without power, or a router that lost its table, closes no connection. Without pings, calls on such a
    # connection would fail for minutes.
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.http2.ping_timeout_ms", 5000),  # timeout of gRPC's own pings, a minute by default
]
ROUND_ROBIN = ("grpc.lb_policy_name", "round_robin")  # use all reachable addresses of a DNS name in turn


def blocking_channel(target: str, security: tls.ClientTLS) -> grpc.Channel:
    """Open a channel for Client; calls rotate over all addresses of the target's name. Without a CA there is no TLS."""
    options = [*OPTIONS, ROUND_ROBIN]
    if security:
        return grpc.secure_channel(target, security.credentials(), options)
    return grpc.insecure_channel(target, options)


def async_channel(target: str, security: tls.ClientTLS) -> grpc.aio.Channel:
    """Open a channel for a gateway, which waits for many calls at once. Without a CA there is no TLS."""
    if security:
        return grpc.aio.secure_channel(target, security.credentials(), OPTIONS)
    return grpc.aio.insecure_channel(target, OPTIONS)
