"""Channels to members and gateways: long-lived, quick to come back, without retries of gRPC's own."""

import grpc

from dico_tf.edge.server import tls

MESSAGE_BYTES = 64 * 2**20
KEEPALIVE_MS = 10_000  # between looks whether the other end is there, while something is asked of it
OPTIONS = [
    ("grpc.enable_retries", 0),  # ours have a budget
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),  # for which an attempt to connect is given time
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.use_local_subchannel_pool", 1),  # or closing one would not close its connection
    # A device that lost its power, or a router that forgot, closes nothing: the connection would be asked for minutes.
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.http2.ping_timeout_ms", 5000),  # of the pings that gRPC sends by itself: a minute
]


IN_TURN = ("grpc.lb_policy_name", "round_robin")  # of all addresses to which a name leads, those that are there


def waiting(target: str, security: tls.ClientTLS) -> grpc.Channel:
    """For a client that waits for its answers; several gateways of one name are asked in turn."""
    options = [*OPTIONS, IN_TURN]
    if security:
        return grpc.secure_channel(target, security.credentials(), options)
    return grpc.insecure_channel(target, options)


def asynchronous(target: str, security: tls.ClientTLS) -> grpc.aio.Channel:
    """For the gateway, which waits for many."""
    if security:
        return grpc.aio.secure_channel(target, security.credentials(), OPTIONS)
    return grpc.aio.insecure_channel(target, OPTIONS)
