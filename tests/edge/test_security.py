"""Access control: tokens, certificates and addresses."""

import ssl

import grpc
import pytest

from dico_tf.edge.server import access, tls
from dico_tf.errors import UserError
from tests.edge import certificates, exports, workers

TOKEN = "correct-horse-battery"
ONE = {"image": exports.images(1)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("certificates"))


def test_without_the_token_nothing_is_answered_but_health(export, tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    with workers.running(export, f"--token_file={tmp_path / 'token'}") as worker:
        request = b'{"inputs": []}'
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
            status, message = worker.post(request, **headers)
            assert status == 401 and message["error"].startswith("the token is missing or wrong")
        assert worker.post(request, Authorization=f"Bearer {TOKEN}")[0] == 400
        assert worker.ask("GET", "/metrics")[0] == 401 and worker.ask("GET", "/healthz")[0] == 200
        assert worker.health() == 1
        for method in ("ModelInfer", "ServerMetadata"):
            for metadata in ({}, {"authorization": "Bearer x"}):
                with pytest.raises(grpc.RpcError) as caught:
                    worker.call(method, b"", **metadata)
                assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert worker.call("ServerMetadata", b"", authorization=f"Bearer {TOKEN}")


def test_the_token_may_come_from_the_environment(export):
    with workers.running(export, env={access.TOKEN_VARIABLE: TOKEN}) as worker:
        assert worker.post(b"{}")[0] == 401
        assert worker.post(b"{}", Authorization=f"Bearer {TOKEN}")[0] == 400


@pytest.mark.parametrize(
    "token", ["", "short", "with a space in between", "tövenäüöläjäöüä-ö", "line\nfeed-and-more-of-it"]
)
def test_an_invalid_token_is_refused(export, token):
    message = workers.refused(*workers.command(export), env={access.TOKEN_VARIABLE: token})
    assert message.startswith("DICO_TF_TOKEN: a token has at least 16") and (not token or token not in message)


def test_grpc_and_http_both_use_tls(export, made):
    flags = (f"--tls_cert={made.server.cert}", f"--tls_key={made.server.key}")
    client = tls.ClientTLS(ca=made.ca)
    with workers.running(export, *flags, credentials=client.credentials()) as worker:
        assert worker.infer(ONE).version == "first"
        assert worker.ask("GET", "/v2", context=client.context())[0] == 200
        with pytest.raises(ssl.SSLError):
            worker.ask("GET", "/v2", context=ssl.create_default_context())
        with pytest.raises(OSError):
            worker.ask("GET", "/v2")
        with grpc.insecure_channel(worker.grpc) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(workers.SERVICE + "ServerLive")(b"", timeout=2)


def test_a_client_ca_admits_only_its_clients(export, made):
    flags = (f"--tls_cert={made.server.cert}", f"--tls_key={made.server.key}", f"--tls_client_ca={made.ca}")
    right = tls.ClientTLS(ca=made.ca, cert=made.client.cert, key=made.client.key)
    with workers.running(export, *flags, credentials=right.credentials()) as worker:
        assert worker.infer(ONE).version == "first"
        assert worker.ask("GET", "/v2", context=right.context())[0] == 200
        for wrong in (
            tls.ClientTLS(ca=made.ca),
            tls.ClientTLS(ca=made.ca, cert=made.stranger.cert, key=made.stranger.key),
        ):
            with pytest.raises(OSError):  # or its subclass ssl.SSLError
                worker.ask("GET", "/v2", context=wrong.context())
            with grpc.secure_channel(worker.grpc, wrong.credentials()) as channel, pytest.raises(grpc.RpcError):
                channel.unary_unary(workers.SERVICE + "ServerLive")(b"", timeout=2)
        assert worker.infer(ONE).version == "first"


def test_other_addresses_than_loopback_need_tls_and_authentication(export, made, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    secure, token = (
        (f"--tls_cert={made.server.cert}", f"--tls_key={made.server.key}"),
        f"--token_file={tmp_path / 'token'}",
    )
    for flags, missing in (
        ((), "give --tls_cert and --tls_key, and one of --token_file and --tls_client_ca; or give --insecure"),
        (secure, "give one of --token_file and --tls_client_ca; or"),
        ((token,), "give --tls_cert and --tls_key; or"),
    ):
        assert missing in workers.refused(*workers.command(export, "--host=0.0.0.0", *flags))
    for flags in ((*secure, token), ("--insecure",)):
        with workers.running(export, "--host=0.0.0.0", *flags) as worker:
            assert worker.grpc.startswith("0.0.0.0:")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_addresses_need_no_tls(host):
    assert access.loopback(host)
    access.check_address(host, tls=False, authenticated=False, insecure=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "10.0.0.1", "", "edge-1", "localhost.example.org"])
def test_other_addresses_are_not_loopback(host):
    assert not access.loopback(host)


def test_unusable_certificates_are_refused_by_name(made, tmp_path):
    (tmp_path / "none.pem").write_text("nothing")
    for pair, message in (
        ((made.server.cert, ""), "must be given together"),
        ((made.server.cert, made.client.key), "are not a certificate and its key"),
        ((str(tmp_path / "none.pem"), made.server.key), "are not a certificate"),
        (("/nowhere.pem", made.server.key), "--tls_cert=/nowhere.pem cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            tls.ServerTLS(cert=pair[0], key=pair[1])
    with pytest.raises(UserError, match=r"--tls_client_ca=.* is not a certificate"):
        tls.ServerTLS(cert=made.server.cert, key=made.server.key, client_ca=str(tmp_path / "none.pem"))


def test_a_clients_unusable_certificates_are_refused_by_the_name_of_their_flag(made, tmp_path):
    (tmp_path / "none.pem").write_text("nothing")
    none, ca, cert = str(tmp_path / "none.pem"), made.ca, made.client.cert
    for files, message in (
        ({"ca": "/nowhere.pem"}, "--member_tls_ca=/nowhere.pem cannot be read"),
        ({"ca": none}, "--member_tls_ca=.* is not a certificate"),
        ({"cert": cert, "key": none}, "--member_tls_cert and --member_tls_key need --member_tls_ca"),
        ({"ca": ca, "cert": cert}, "--member_tls_cert and --member_tls_key must be given together"),
        ({"ca": ca, "cert": cert, "key": none}, "--member_tls_key=.* are not a certificate and its key"),
    ):
        with pytest.raises(UserError, match=message):
            tls.ClientTLS(**files, prefix="--member_")
    with pytest.raises(UserError, match=r"^tls_ca=/nowhere.pem cannot be read"):
        tls.ClientTLS(ca="/nowhere.pem")
