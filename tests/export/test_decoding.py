"""Pictures decoded in a graph are those decoded outside of one, to the last bit."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from dico_tf.data import image_decoding
from dico_tf.export import decoding

DRAW = np.random.default_rng(0)
SIZES = [(32, 32), (32, 40), (224, 257)]  # without a margin, with one, as large as ImageNet's
SIDES = [(40, 33), (500, 375), (300, 2000), (20, 17)]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    coarse = Image.fromarray(DRAW.integers(0, 256, (7, 9, 3), np.uint8)).resize((width, height))
    grain = np.asarray(coarse) + DRAW.normal(0, 20, (height, width, 3))
    image = Image.fromarray(grain.clip(0, 255).astype(np.uint8))
    if mode in ("RGBA", "LA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(DRAW.integers(0, 256, (height, width), np.uint8)))
        return image
    return image.convert(mode)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned(image: Image.Image, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "a maker of cameras", orientation
    return encoded(image, "JPEG", exif=exif)


def kinds(width: int, height: int) -> dict[str, bytes]:
    def of(mode="RGB"):
        return picture(width, height, mode)

    return {
        "png": encoded(of(), "PNG"),
        "jpeg": encoded(of(), "JPEG", quality=90),
        "jpeg, full colour": encoded(of(), "JPEG", subsampling=0),
        "jpeg, progressive": encoded(of(), "JPEG", progressive=True),
        "jpeg, grey": encoded(of("L"), "JPEG"),
        "jpeg, printer's inks": encoded(of("CMYK"), "JPEG"),
        "png, grey": encoded(of("L"), "PNG"),
        "png, grey and transparent": encoded(of("LA"), "PNG"),
        "png, transparent": encoded(of("RGBA"), "PNG"),
        "png, palette": encoded(of("P"), "PNG"),
        "png, black and white": encoded(of("1"), "PNG"),
    }


@pytest.fixture(scope="module", params=SIZES, ids=str)
def squares(request):
    """bytes -> (what the graph sees, what training sees)."""
    size, short = request.param
    graph = tf.function(
        lambda contents: decoding.squares(contents, size, short),
        autograph=False,
        input_signature=[tf.TensorSpec([None], tf.string)],
    )

    def both(contents: list[bytes]):
        return graph(contents).numpy(), np.stack([image_decoding.decode(io.BytesIO(c), size, short) for c in contents])

    return both


@pytest.mark.parametrize(
    "sides", [SIDES[0], *(pytest.param(sides, marks=pytest.mark.slow) for sides in SIDES[1:])], ids=str
)
def test_a_graph_sees_what_training_saw(squares, sides):
    contents = kinds(*sides)
    decoded, expected = squares(list(contents.values()))
    wrong = [name for name, a, b in zip(contents, decoded, expected, strict=True) if not np.array_equal(a, b)]
    assert wrong == []


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_of_few_colours_is_as_opaque_as_it_was(squares, bits):
    image = picture(50, 40).quantize(2**bits)
    contents = [encoded(image, "PNG", bits=bits, **more) for more in ({}, {"transparency": b"\x00\x80"})]
    decoded, expected = squares(contents)
    assert np.array_equal(decoded, expected)
    assert not np.array_equal(decoded[0], decoded[1])


@pytest.mark.parametrize("sides", [(120, 90), (33, 200)], ids=str)
def test_a_photo_that_lies_on_its_side_is_put_upright(squares, sides):
    image = picture(*sides)
    decoded, expected = squares([turned(image, orientation) for orientation in range(10)])
    assert np.array_equal(decoded, expected)
    assert not np.array_equal(decoded[1], decoded[6])


@pytest.mark.parametrize("order", [b"II", b"MM"])
def test_the_orientation_is_found_in_either_order_of_bytes(order):
    exif = Image.Exif()
    exif[0x0112] = 6
    header = exif.tobytes()  # little-endian
    if order == b"MM":
        header = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    content = encoded(picture(40, 30), "JPEG", exif=header)
    assert decoding.decoded(tf.constant(content), 1000).shape == (40, 30, 3)


@pytest.mark.parametrize(
    "harm",
    [
        lambda content: b"",
        lambda content: b"no picture at all, but long enough to have a header" * 3,
        lambda content: content[: len(content) // 2],
        lambda content: content[:40],
        lambda content: content[:20] + bytes(len(content) - 20),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_what_is_no_whole_picture_is_an_error_and_no_crash(kind, harm):
    content = harm(encoded(picture(60, 60), kind))
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoding.squares(tf.constant([content]), 32, 32)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "WEBP"])
def test_another_kind_of_picture_is_refused_as_such(kind):
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected a JPEG or PNG image, got neither"):
        decoding.squares(tf.constant([encoded(picture(60, 60), kind)]), 32, 32)


def test_a_small_file_that_says_it_is_huge_is_refused():
    content = bytearray(encoded(picture(8, 8), "PNG"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(tf.errors.InvalidArgumentError, match="100000000 pixels"):
        decoding.squares(tf.constant([bytes(content)]), 32, 32)


@pytest.mark.slow
def test_random_sides_and_sizes_agree_too():
    for _ in range(60):
        size = int(DRAW.integers(8, 70))
        short = size if DRAW.random() < 0.5 else int(1.15 * size)
        image = Image.fromarray(DRAW.integers(0, 256, (*DRAW.integers(3, 220, 2), 3), np.uint8))
        decoded = decoding.square(tf.constant(np.asarray(image)), size, short)
        assert np.array_equal(decoded, image_decoding.square(image, size, short)), (size, short, image.size)
