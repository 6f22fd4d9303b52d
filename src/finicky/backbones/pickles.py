"""PyTorch's pickled checkpoints, read without running anything that they say.

A pickle is a program. This one is interpreted here, and knows no way to import or call: names are
compared with a list, calls of the few that describe tensors become descriptions, and of those that
training scripts leave beside the weights (paths, settings, NumPy's numbers) nothing remains. Any
other name is refused, whatever the file meant to do with it.
"""

from __future__ import annotations

import pickletools
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from finicky.errors import DataError, UnsupportedModelError

# Far more than any checkpoint has: a network of 1,000 tensors with its optimizer takes 100,000.
_MOST_STEPS = 2_000_000
# Of what is remembered: tuples may nest, and integers grow, without end.
_KEYS = (str, int, float, bool, type(None))
MOST_AXES = 32

_TENSORS = {
    "torch._utils._rebuild_tensor": 0,
    "torch._utils._rebuild_tensor_v2": 0,
    "torch._utils._rebuild_tensor_v3": 6,  # the dtype's place among the arguments
}
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
    "UntypedStorage": "uint8",
}
_DTYPES = frozenset(
    f"torch.{name}"
    for name in [*_STORAGES.values(), "float", "double", "half", "int", "long", "short"]
)
_QUANTISED = frozenset(
    ["torch._utils._rebuild_qtensor"]
    + [f"torch.{n}Storage" for n in ("QInt8", "QInt32", "QUInt8", "QUInt4x2", "QUInt2x4")]
)
_OTHER_TENSORS = frozenset(
    f"torch._utils._rebuild_{name}"
    for name in ["sparse_tensor", "sparse_csr_tensor", "nested_tensor", "meta_tensor_no_storage"]
) | {"torch._tensor._rebuild_from_type_v2", "torch.ComplexFloatStorage"}
_PLAIN = (
    *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list"),
    *("long", "object", "set", "slice", "str", "tuple", "unicode"),
)
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# What training scripts put beside weights. Nothing is made of it; it may be named.
_IDLE = frozenset(
    [
        "_codecs.encode",
        "argparse.Namespace",
        "copyreg._reconstructor",
        "datetime.date",
        "datetime.datetime",
        "datetime.timedelta",
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
        "numpy.dtype",
        "numpy.ndarray",
        "pathlib.PosixPath",
        "pathlib.PurePosixPath",
        "pathlib.PureWindowsPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",
        "pathlib._local.WindowsPath",
        "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "torch.Generator",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        "torch.torch_version.TorchVersion",
        "types.SimpleNamespace",
    ]
    + [f"numpy.{c}.multiarray.{n}" for c in ("core", "_core") for n in ("scalar", "_reconstruct")]
    + [f"builtins.{name}" for name in _PLAIN]
    + [f"collections.{n}" for n in ("Counter", "OrderedDict", "defaultdict", "deque")]
    + [f"torch.{n}" for n in ("strided", "channels_last", "contiguous_format", "preserve_format")]
)


@dataclass(frozen=True)
class StorageSpec:
    """Numbers in the file, by their key there: ``numel`` of ``dtype``."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a checkpoint describes: a view of numbers in the file."""

    storage: StorageSpec
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Pickled:
    """What a pickle describes: dicts, lists, numbers, texts and `TensorSpec`.

    ``storages``: all that it refers to, by key, whether or not ``value`` still has them.
    """

    value: Any
    storages: dict[str, StorageSpec]


@dataclass(frozen=True)
class _Name:
    """A name that the pickle looked up; never what stands behind it."""

    full: str


class _Idle:
    """What a call or an object of no use here came to."""


def read_pickle(stream: Any, file: str) -> Pickled:
    """What a pickle describes.

    Args:
        stream: Of bytes; read up to the pickle's end.
        file: What to call it in errors.

    Raises:
        DataError: It is damaged, or names what no file of weights needs; the message says what.
        UnsupportedModelError: Its tensors are of a kind that Finicky does not read.
    """
    machine = _Machine(file)
    try:
        return _run(machine, stream)
    except (UnsupportedModelError, DataError):
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise DataError(
            f"{file} is not a readable pickle, or is cut off ({type(error).__name__})"
        ) from error


def _run(machine: _Machine, stream: Any) -> Pickled:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of texts with strange escapes, in damaged files
        for number, (code, argument, _) in enumerate(pickletools.genops(stream)):
            if code.name == "STOP":
                return Pickled(machine.stack.pop(), machine.storages)
            if number > _MOST_STEPS:
                break
            machine.step(code.name, argument)
    raise DataError(f"{machine.file} has more than {_MOST_STEPS:,} steps: no file of weights")


class _Machine:
    """A stack, marks in it, and what was put aside."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, StorageSpec] = {}

    def step(self, code: str, argument: Any) -> None:
        """Do one instruction."""
        if _PUSH.fullmatch(code):
            self.stack.append(argument)
        elif code in _MAKE:
            self.stack.append(_MAKE[code]())
        elif code in _GET:
            self.stack.append(self.memo[int(argument)])
        elif code in _PUT:
            self.memo[len(self.memo) if argument is None else int(argument)] = self.stack[-1]
        elif code in _STEPS:
            _STEPS[code](self, argument)
        elif code not in ("PROTO", "FRAME"):
            raise DataError(
                f"{self.file} uses the pickle instruction {code}, as no checkpoint does"
            )

    def take(self, count: int) -> list[Any]:
        """The last values of the stack, in order."""
        if count > len(self.stack):
            raise IndexError(count)
        taken = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return taken

    def since_mark(self) -> list[Any]:
        """What was pushed since the last mark."""
        return self.take(len(self.stack) - self.marks.pop())

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def tuple_of(self, count: int | None) -> None:
        self.stack.append(tuple(self.since_mark() if count is None else self.take(count)))

    def setitems(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                if isinstance(key, _KEYS) and not (isinstance(key, int) and key.bit_length() > 64):
                    target[key] = value

    def append(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def dict_of(self, _: Any) -> None:
        pairs = self.since_mark()
        self.stack.append({})
        self.setitems(pairs)

    def build(self, _: Any) -> None:
        """State of an object, such as a state dict's versions of layers: of no use here."""
        self.take(1)

    def drop(self, _: Any) -> None:
        self.since_mark()

    def name(self, argument: Any) -> None:
        """Look up a name: refuse it, or remember that it was named."""
        if argument is None:
            module, name = self.take(2)
        else:
            module, _, name = str(argument).partition(" ")
        self.stack.append(self.checked(f"{_PYTHON_2.get(module, module)}.{name}"))

    def checked(self, full: str) -> _Name:
        """A name that is on one of the lists."""
        storage = full.removeprefix("torch.storage.").removeprefix("torch.")
        if full in _QUANTISED:
            raise UnsupportedModelError(
                f"{self.file} holds quantised weights ({full}): Finicky reads floats; save the "
                "network's weights as they were before quantisation"
            )
        if full in _OTHER_TENSORS:
            raise UnsupportedModelError(
                f"{self.file} holds tensors of another kind ({full}): save plain, dense ones"
            )
        known = full in _TENSORS or full in _PARAMETERS or full in _IDLE or full in _DTYPES
        if not (known or (storage in _STORAGES and full.startswith("torch."))):
            raise DataError(_refusal(self.file, full))
        return _Name(full)

    def call(self, callee: Any, arguments: Any) -> None:
        """What a call describes, if it describes a tensor or a dict."""
        name = callee.full if isinstance(callee, _Name) else ""
        arguments = arguments if isinstance(arguments, tuple) else ()
        found: Any = _Idle()
        if name in _TENSORS:
            found = _tensor(arguments, _TENSORS[name])
        elif name in _PARAMETERS:
            found = arguments[0]
        elif name in ("collections.OrderedDict", "collections.defaultdict"):
            found = {}
        elif name == "torch.Size":
            found = arguments[0]
        self.stack.append(found)

    def reduce(self, _: Any) -> None:
        self.call(*self.take(2))

    def instance(self, argument: Any) -> None:
        """INST: a name and what was pushed since the mark."""
        module, _, name = str(argument).partition(" ")
        callee = self.checked(f"{_PYTHON_2.get(module, module)}.{name}")
        self.call(callee, tuple(self.since_mark()))

    def object(self, _: Any) -> None:
        """OBJ: the same, the name on the stack."""
        callee, *arguments = self.since_mark()
        self.call(callee, tuple(arguments))

    def new_with_keywords(self, _: Any) -> None:
        callee, arguments, _ = self.take(3)
        self.call(callee, arguments)

    def persistent(self, _: Any) -> None:
        """A reference to numbers that lie elsewhere in the file."""
        found = _storage(self.file, self.take(1)[0])
        if self.storages.setdefault(found.key, found) != found:
            raise DataError(f"{self.file} is damaged: tensor data {found.key!r:.40} has two kinds")
        self.stack.append(found)


_PUSH = re.compile(
    r"(BIN)?INT[12]?|LONG[14]?|(BIN)?FLOAT|(SHORT_)?(BIN)?(STRING|UNICODE8?|BYTES8?)|BYTEARRAY8"
)
_MAKE: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_TUPLE": tuple,
    "NEWFALSE": lambda: False,
    "NEWTRUE": lambda: True,
    "NONE": lambda: None,
}
_GET = ("GET", "BINGET", "LONG_BINGET")
_PUT = ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE")
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "ADDITEMS": lambda m, _: m.append(m.since_mark()),
    "APPEND": lambda m, _: m.append(m.take(1)),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "BINPERSID": _Machine.persistent,
    "BUILD": _Machine.build,
    "DICT": _Machine.dict_of,
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "FROZENSET": lambda m, _: m.stack.append(m.since_mark()),
    "GLOBAL": _Machine.name,
    "INST": _Machine.instance,
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "MARK": _Machine.mark,
    "NEWOBJ": _Machine.reduce,
    "NEWOBJ_EX": _Machine.new_with_keywords,
    "OBJ": _Machine.object,
    "POP": _Machine.build,
    "POP_MARK": _Machine.drop,
    "REDUCE": _Machine.reduce,
    "SETITEM": lambda m, _: m.setitems(m.take(2)),
    "SETITEMS": lambda m, _: m.setitems(m.since_mark()),
    "STACK_GLOBAL": _Machine.name,
    "TUPLE": lambda m, _: m.tuple_of(None),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
}


def _refusal(file: str, full: str) -> str:
    remedy = (
        "Load it where it was made, if you trust it, and save its tensors: "
        "torch.save(model.state_dict(), 'weights.pth')"
    )
    if full.startswith(("torch.nn.", "torch.fx.", "torchvision.", "timm.", "__main__.")):
        return (
            f"{file} is a whole pickled network ({full:.120}), which only running code could "
            f"load; none was run. {remedy}"
        )
    return f"{file} wants {full:.120}, which no file of weights needs; it was not run. {remedy}"


def _storage(file: str, reference: Any) -> StorageSpec:
    kind, name, key, _, numel, *view = reference
    dtype = _STORAGES[name.full.rpartition(".")[2]]
    if kind != "storage" or not isinstance(key, str) or not isinstance(numel, int):
        raise ValueError(reference)
    if view and view[0] is not None:
        raise UnsupportedModelError(f"{file} shares parts of tensors as old PyTorch did: save anew")
    if not 0 <= numel < 2**40:
        raise DataError(f"{file} is damaged: tensor data {key!r:.40} claims {numel:,} numbers")
    return StorageSpec(key, dtype, numel)


def _tensor(arguments: tuple[Any, ...], dtype_at: int) -> TensorSpec:
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, StorageSpec) or len(size) != len(stride):
        raise TypeError("no tensor")
    if len(size) > MOST_AXES:
        raise ValueError("axes")
    if not all(isinstance(n, int) and 0 <= n < 2**40 for n in (offset, *size, *stride)):
        raise ValueError("sizes")
    dtype = storage.dtype
    if dtype_at:
        if (named := arguments[dtype_at].full) not in _DTYPES:
            raise ValueError(named)
        dtype = named.removeprefix("torch.")
    return TensorSpec(storage, offset, tuple(size), tuple(stride), dtype)
