"""A reader of pickles that runs no code: it knows plain values and the names it is given, and refuses all else.

It imports nothing, looks nothing up and creates no instance of a class. Time and memory are bounded by the length of
the pickle: numbers of elements in the pickle never lead to an allocation. The messages of all errors lack the file's
name; the caller puts it before them.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

from dico_tf.errors import UserError

LARGEST_PICKLE = 32 * 2**20  # bytes; a network of 10,000 tensors has 2 MiB
LARGEST_WORK = 2_000_000  # opcodes and arguments; a tensor of a state dict takes about 35
_LARGEST_INTEGER = 80  # bits, those of the magic number of PyTorch's older files
_SAVE_WEIGHTS = "save its weights alone, with torch.save(model.state_dict(), FILE) or as .safetensors"


class UnsupportedError(UserError):
    """Content that is refused here and that PyTorch may be able to read."""


class Function(NamedTuple):
    """A function that a name in a pickle stands for, so that the pickle may call it."""

    call: Callable[[tuple], Any]  # takes the arguments as one tuple


def damaged(reason: str) -> UserError:
    """Return the error for a file whose content contradicts itself or ends too early."""
    return UserError(f"is damaged or incomplete ({reason}): copy or download it again")


def unsupported(content: str) -> UnsupportedError:
    """Return the error for content of a valid file that cannot be read here."""
    return UnsupportedError(
        f"holds {content}, which only PyTorch reads: open it there (pip install torch) and {_SAVE_WEIGHTS}"
    )


def excessive(content: str) -> UserError:
    """Return the error for content that could take all time or memory, so that PyTorch is not tried on it either."""
    return UserError(
        f"holds {content}, which could take all time or memory and is refused: if you trust the file, open it in "
        f"PyTorch (pip install torch) and {_SAVE_WEIGHTS}"
    )


def python_object(name: str) -> UnsupportedError:
    """Return the error for a Python object, by the name of its class or function."""
    return UnsupportedError(
        f"holds more than tensors: it names {shortened(name)}. Python objects can run code and are refused: if you "
        f"trust the file, open it in PyTorch (pip install torch) and {_SAVE_WEIGHTS}"
    )


def shortened(value: Any) -> str:
    """Return the repr of a value from a file, cut to 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def load(
    stream: BinaryIO,
    names: Mapping[str, Any],
    refuse: Callable[[str], UserError] = python_object,
    persistent: Callable[[Any], Any] | None = None,
) -> Any:
    """Return the value of the pickle at the stream's position, and leave the stream just behind it.

    The value consists of None, bool, int, float, str, bytes, list, tuple, dict, and of what `names` and `persistent`
    give. The keys of a dict are None, bool, int, float, str or bytes: hashing nested tuples could take forever.

    Args:
        stream: bytes in memory; a file would be read without limit.
        names: what a name MODULE.NAME stands for: a value, or a Function that may be called.
        refuse: returns the error to raise for any other name.
        persistent: returns what a persistent id stands for; None: there are no such ids.

    Raises:
        UserError: if the bytes are not a complete pickle, or if a dict has keys of other types. For a name that is
            not in `names`, the error that `refuse` returns.
        UnsupportedError: if the pickle has an opcode that is not supported, or over LARGEST_WORK opcodes and arguments.
    """
    machine = _Machine(names, refuse, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except (ValueError, IndexError, KeyError, OverflowError, struct.error) as error:
        raise damaged(f"its pickle: {shortened(str(error))}") from None


class _Machine:
    """The stack and memo of a pickle, and one method for each group of opcodes."""

    def __init__(
        self,
        names: Mapping[str, Any],
        refuse: Callable[[str], UserError],
        persistent: Callable[[Any], Any] | None,
    ):
        self.names, self.refuse, self.persistent = names, refuse, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stack under each mark
        self.memo: dict[int, Any] = {}
        self.work = 0

    def step(self, opcode: str, argument: Any) -> None:
        self.work += 1
        if self.work > LARGEST_WORK:
            raise unsupported(f"a pickle of over {LARGEST_WORK} steps")
        if opcode in _VALUES:
            self.stack.append(_value(opcode, argument))
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise unsupported(f"the pickle opcode {opcode}")

    def mark(self, _) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_marked(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise IndexError("the stack is empty")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def push_tuple(self, items: list[Any]) -> None:
        self.stack.append(tuple(items))

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise ValueError(f"items for a {type(target).__name__}")
        target.extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ValueError(f"{len(items)} keys and values for a {type(target).__name__}")
        _fill(target, zip(items[::2], items[1::2], strict=True))

    def name(self, name: str) -> None:
        if name not in self.names:
            raise self.refuse(name)
        self.stack.append(self.names[name])

    def stack_name(self, _) -> None:
        module, name = self.pop(2)
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is not text")
        self.name(f"{module}.{name}")

    def call(self, _) -> None:
        function, arguments = self.pop(2)
        if type(function) is not Function or type(arguments) is not tuple:
            raise ValueError(f"a call of a {type(function).__name__}")
        self.work += sum(len(value) for value in arguments if type(value) in (list, dict, tuple))
        self.stack.append(function.call(arguments))

    def build(self, _) -> None:
        """Ignore the attributes of a dict, where state dicts have versions of their layers; refuse those of others."""
        target, state = self.stack[-2], self.stack.pop()
        if type(target) is not dict or type(state) is not dict:
            raise unsupported(f"attributes of a {type(target).__name__}")

    def persistent_id(self, _) -> None:
        if self.persistent is None:
            raise ValueError("a persistent id")
        self.stack.append(self.persistent(self.stack.pop()))


def _value(opcode: str, argument: Any) -> Any:
    if opcode in _CONSTANTS:
        return _CONSTANTS[opcode]
    if type(argument) is int and argument.bit_length() > _LARGEST_INTEGER:
        raise ValueError("an integer that is too large")
    # from Python 2: pickletools decodes bytes as Latin-1
    return argument.encode("latin-1").decode() if opcode in _BYTE_STRINGS else argument


def _fill(target: dict, pairs: Any) -> dict:
    for key, value in pairs:
        if type(key) not in _KEYS or (type(key) is int and key.bit_length() > 64):
            raise excessive(f"a dict with keys of type {type(key).__name__}")
        target[key] = value
    return target


def _ordered_dict(arguments: tuple) -> dict:
    """Return a dict for the pickled arguments of an OrderedDict: none, or (from Python 2) one list of pairs.

    Raises ValueError for any others.
    """
    match arguments:
        case ():
            return {}
        case ([*pairs],) if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            return _fill({}, pairs)
    raise ValueError("the items of an OrderedDict")


def only_argument(kind: type) -> Function:
    """Return a `Function` that returns its only argument; ValueError if that is not of exactly this type."""

    def call(arguments: tuple) -> Any:
        if len(arguments) != 1 or type(arguments[0]) is not kind:
            raise ValueError(f"expected a {kind.__name__} as the argument")
        return arguments[0]

    return Function(call)


COLLECTIONS = {"collections.OrderedDict": Function(_ordered_dict), "collections.Counter": only_argument(dict)}

_KEYS = {type(None), bool, int, float, str, bytes}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_BYTE_STRINGS = {"BINSTRING", "SHORT_BINSTRING"}
_VALUES = {
    *_CONSTANTS, *_BYTE_STRINGS, "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "SHORT_BINUNICODE",
    "BINUNICODE", "BINUNICODE8", "SHORT_BINBYTES", "BINBYTES", "BINBYTES8",
}  # fmt: skip
_STEPS: dict[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "MARK": _Machine.mark,
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "TUPLE": lambda machine, _: machine.push_tuple(machine.pop_marked()),
    "TUPLE1": lambda machine, _: machine.push_tuple(machine.pop(1)),
    "TUPLE2": lambda machine, _: machine.push_tuple(machine.pop(2)),
    "TUPLE3": lambda machine, _: machine.push_tuple(machine.pop(3)),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_marked()),
    "SETITEM": lambda machine, _: machine.update(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.update(machine.pop_marked()),
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": lambda machine, argument: machine.name(".".join(argument.split(" ", 1))),
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
