"""Images that clients send: incomplete, too large or invalid ones are refused before they cost memory; also tokens."""

import io
import socket
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.edge.errors import EdgeError
from dico_tf.edge.server import access
from dico_tf.edge.server.limits import Limits, decode_image, decode_views
from dico_tf.errors import UserError

LIMITS = Limits(pixels=10_000)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3)).astype(np.uint8))


def encoded(image=NOISE, kind="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def refused(content):
    with pytest.raises(EdgeError) as caught:
        decode_image(content, 32, 32, LIMITS)
    assert caught.value.code == "INVALID_ARGUMENT"
    return caught.value.sentence


def png(width, height):
    """Return a PNG header with this size and no data."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_an_image_is_decoded_as_in_training(kind, mode):
    content = encoded(NOISE.convert(mode), kind)
    assert np.array_equal(decode_image(content, 32, 36, LIMITS), image_decoding.decode(io.BytesIO(content), 32, 36))


def test_decoding_once_for_several_sizes_equals_decoding_for_each():
    large = NOISE.resize((900, 700))
    views = [(32, 36), (64, 64), (128, 147), (224, 257), (24, 24)]
    for content in (encoded(large), encoded(large, "PNG"), encoded()):
        images = decode_views(content, views, Limits())
        for view, image in zip(views, images, strict=True):
            assert np.array_equal(image, image_decoding.decode(io.BytesIO(content), *view))


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = decode_image(encoded(NOISE, "PNG", exif=exif), 32, 32, LIMITS)
    assert np.array_equal(turned, np.rot90(decode_image(encoded(NOISE, "PNG"), 32, 32, LIMITS), -1))


@pytest.mark.parametrize("size", [(101, 100), (2**31 - 1, 2**31 - 1), (20_000, 20_000)])
def test_a_decompression_bomb_is_refused_by_its_header(size):
    assert refused(png(*size)).startswith("the image has more than 10000 pixels")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_other_image_formats_are_refused(kind):
    assert refused(encoded(NOISE, kind)) == "the image bytes are neither JPEG nor PNG, or their header is damaged"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused(kind, share):
    content = encoded(kind=kind)
    assert "image" in refused(content[: int(share * len(content))])


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["JPEG", "PNG"]), st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=5))
def test_a_damaged_image_is_decoded_or_refused(kind, damage):
    content = bytearray(encoded(kind=kind))
    for place, value in damage:
        content[int(place * len(content))] = value
    try:
        assert decode_image(bytes(content), 32, 32, LIMITS).shape == (32, 32, 3)
    except EdgeError as refusal:
        assert refusal.code == "INVALID_ARGUMENT"


def test_a_token_is_read_from_its_file(tmp_path, monkeypatch):
    monkeypatch.delenv(access.TOKEN_VARIABLE, raising=False)
    assert access.token("") == ""
    (tmp_path / "token").write_text("a" * 16 + "\n")
    assert access.token(str(tmp_path / "token")) == "a" * 16
    with pytest.raises(UserError, match="cannot be read: No such file"):
        access.token(str(tmp_path / "none"))
    (tmp_path / "token").write_bytes(b"\xff" * 20)
    with pytest.raises(UserError, match="cannot be read: it is not a text file"):
        access.token(str(tmp_path / "token"))


@pytest.mark.parametrize(
    ("header", "right"),
    [
        ("Bearer secret", True),
        ("bearer  secret ", True),
        ("Bearer secre", False),
        ("Basic secret", False),
        ("secret", False),
        ("", False),
        ("Bearer", False),
        ("Bearer ä", False),
    ],
)
def test_only_the_token_itself_is_let_in(header, right):
    assert access.allowed(header, "secret") is right
    assert access.allowed(header, "")


def test_a_port_is_free_or_the_error_has_the_reason_of_the_system():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(
                UserError, match=f"--port={port} on --host={host} cannot be listened on: Address already"
            ):
                access.check_free(host, port, "port")
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):
        access.check_free(host, port, "port")
    for host, message in (("192.0.2.1", "Cannot assign"), ("no.such.host.invalid", "not known|failure in name")):
        with pytest.raises(UserError, match=message):
            access.check_free(host, 0, "port")
