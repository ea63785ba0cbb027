"""Pickles are read without running code, in time and memory that their length bounds."""

import io
import pickle
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dico_tf.errors import UserError
from dico_tf.files import inert_pickle
from dico_tf.files.inert_pickle import Function, UnsupportedError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**79), 2**79) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(
            st.none() | st.booleans() | st.text() | st.binary() | st.integers(-(2**63), 2**63) | st.floats(), inner
        )
    ),
    max_leaves=30,
)


def load(content: bytes, **options):
    return inert_pickle.load(io.BytesIO(content), {**inert_pickle.COLLECTIONS, **options})


@given(PLAIN, st.integers(3, 5))
@settings(deadline=None, max_examples=50)
def test_plain_values_are_read_as_pickle_reads_them(value, protocol):
    stream = io.BytesIO(pickle.dumps(value, protocol) + b"behind")
    assert repr(inert_pickle.load(stream, {})) == repr(value)  # repr tells 1 from True
    assert stream.read() == b"behind"


def test_a_value_that_holds_itself_and_one_in_two_places_are_read():
    value = [1]
    value += [value, {"again": value}]
    result = load(pickle.dumps(value, 2))
    assert result[1] is result and result[2]["again"] is result


def test_attributes_of_a_dict_are_left_out():
    content = b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00aK\x01s}X\x01\x00\x00\x00bK\x02sb."
    assert load(content) == {"a": 1}


class Touch:
    """An object whose pickle creates a file."""

    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_calls_of_a_pickle_are_not_made(protocol, tmp_path):
    mark = tmp_path / "ran"
    for value in (Touch(exec, f"open({str(mark)!r}, 'w')"), [Touch(mark.touch)], {"x": Touch(getattr, mark, "touch")}):
        with pytest.raises(UnsupportedError):
            load(pickle.dumps(value, protocol))
    assert not mark.exists()


NAMES = ["os system", "posix system", "builtins eval", "__builtin__ eval", "collections OrderedDict.fromkeys", " ",
         "collections abc", "torch load", "torch._utils os.system", "functools partial", "OrderedDict collections",
         "_codecs encode", "dico_tf.files.inert_pickle load", "torch.storage _load_from_bytes"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_not_listed_are_refused_whether_or_not_they_are_called(name):
    module, attribute = name.split(" ", 1)
    spelt = [f"c{module}\n{attribute}\n".encode()]
    spelt += [b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, attribute)) + b"\x93"]
    for push in spelt:
        for rest in (b".", b"X\x01\x00\x00\x00a\x85R.", b"}b.", b"0N."):
            with pytest.raises(UnsupportedError, match="Python objects can run code and are refused"):
                load(b"\x80\x04" + push + rest)


HOSTILE = {
    "no pickle": b"text",
    "nothing": b"",
    "no end": b"\x80\x02}",
    "empty stack": b"\x80\x02.",
    "a tuple without a mark": b"\x80\x02t.",
    "a call of text": b"\x80\x02X\x02\x00\x00\x00os)R.",
    "a call without arguments": b"\x80\x02ccollections\nOrderedDict\nNR.",
    "an item of nothing": b"\x80\x02]a.",
    "items for a tuple": b"\x80\x02)K\x01a.",
    "a key without value": b"\x80\x02}(K\x01u.",
    "an attribute of text": b"\x80\x02X\x01\x00\x00\x00a}b.",
    "a name of numbers": b"\x80\x04K\x01K\x02\x93.",
    "a persistent id": b"\x80\x02K\x01Q.",
    "an unknown memo": b"\x80\x02h\x07.",
    "an object by class": b"(ios\nsystem\n.",
    "a new object": b"\x80\x02ccollections\nOrderedDict\n)\x81.",
    "an extension": b"\x80\x02\x82\x01.",
    "a buffer": b"\x80\x05\x97.",
    "text of 2**62 bytes": b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"a.",
    "bytes of 2**62 bytes": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"a.",
    "a frame of 2**62 bytes": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"t.",
    "an integer of 2**31 bytes": b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",
    "an integer of 20,000 bytes": b"\x80\x02\x8b" + (20_000).to_bytes(4, "little") + b"\x7f" * 20_000 + b".",
    "an integer in 5,000 digits": b"I" + b"9" * 5000 + b"\n.",
    "keys that take 2**60 steps to hash": b"\x80\x02}Nq\x00" + b"h\x00\x86q\x00" * 60 + b"Ns.",
    "a dict as key": b"\x80\x02}}Ns.",
    "keys of one hash": b"\x80\x02}(" + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N"
                                                 for n in range(9, 50_000)) + b"u.",
    "pairs that are not": b"\x80\x02ccollections\nOrderedDict\n]]a\x85R.",
    "the same pairs again and again": b"\x80\x02ccollections\nOrderedDict\nq\x00](" + b"](K\x01K\x02e" * 10_000
    + b"eq\x01" + b"h\x00h\x01\x85R" * 10_000 + b".",
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_soon_and_in_little_memory(name):
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            load(HOSTILE[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 300
    assert peak < 64 * 2**20 and time.process_time() - began < 20


def test_the_number_of_steps_is_limited(monkeypatch):
    monkeypatch.setattr(inert_pickle, "LARGEST_WORK", 1000)
    assert load(b"\x80\x02" + b"N" * 998 + b".") is None
    with pytest.raises(UnsupportedError, match="a pickle of over 1000 steps"):
        load(b"\x80\x02" + b"N" * 999 + b".")


def test_values_nested_a_hundred_thousand_deep_are_read_and_freed():
    depth = 100_000
    for content in (b"]" * depth + b"a" * (depth - 1), b"N" + b"\x85" * depth):
        assert load(b"\x80\x02" + content + b".") is not None


OPCODES = st.sampled_from(
    [b"(", b"t", b"\x85", b"\x86", b"\x87", b")", b"]", b"}", b"a", b"e", b"s", b"u", b"N", b"\x88", b"K\x01", b"R",
     b"b", b"Q", b"X\x01\x00\x00\x00a", b"\x94", b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"ccollections\nOrderedDict\n",
     b"cknown\nvalue\n", b"cknown\ncall\n", b"\x93", b"cos\nsystem\n", b"0", b"2", b"1", b"\x81", b"\x8f", b"\x90"]
)  # fmt: skip


@given(st.lists(OPCODES, max_size=40))
@settings(deadline=None, max_examples=300)
def test_any_sequence_of_opcodes_gives_a_value_or_an_error_of_the_user(opcodes):
    names = {"known.value": 3.5, "known.call": Function(lambda arguments: arguments)}
    try:
        inert_pickle.load(io.BytesIO(b"\x80\x02" + b"".join(opcodes) + b"."), names, persistent=lambda key: (key,))
    except UserError as error:
        assert "pip install torch" in str(error) or "is damaged or incomplete" in str(error)
