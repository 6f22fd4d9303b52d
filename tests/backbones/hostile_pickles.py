"""Checkpoints from people who wish you ill, for the tests of the reader."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

# A command that would leave a file behind, were anything run.
COMMAND = "touch {canary}"


class Call:
    """Pickles as a call of a function, whatever it is."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple:
        return self.made


def by_hand(module: str, name: str, canary: Path) -> dict[str, bytes]:
    """One call in every form that the pickle language has."""
    text = COMMAND.format(canary=canary).encode()
    argument = b"X" + struct.pack("<I", len(text)) + text
    short = [bytes([0x8C, len(word)]) + word.encode() for word in (module, name)]
    g = f"c{module}\n{name}\n".encode()
    return {
        "reduce": b"\x80\x02" + g + argument + b"\x85R.",
        "protocol 0": g + b"(S'" + text + b"'\ntR.",
        "inst": b"(S'" + text + b"'\ni" + f"{module}\n{name}\n".encode() + b".",
        "obj": b"(" + g + argument + b"o.",
        "newobj": b"\x80\x02" + g + argument + b"\x85\x81.",
        "newobj_ex": b"\x80\x04" + g + argument + b"\x85}\x92.",
        "stack_global": b"\x80\x04" + short[0] + short[1] + b"\x93" + argument + b"\x85R.",
        "build": b"\x80\x02" + g + b"}" + argument + b"Nsb.",
        "put aside": b"\x80\x02" + g + b"q\x00" + argument + b"\x85q\x01h\x00h\x01R.",
        "after a dict": b"\x80\x02}(" + argument + g + argument + b"\x85Ru.",
        "thrown away": b"\x80\x02" + g + argument + b"\x85R0}.",
    }


def as_zip(path: Path, content: bytes, *, name: str = "archive", **more: bytes) -> Path:
    """A pickle within PyTorch's archive, other members beside it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{name}/data.pkl", content)
        for member, data in {"version": b"3\n", "byteorder": b"little", **more}.items():
            archive.writestr(f"{name}/{member}", data)
    return path


def as_legacy(
    path: Path, content: bytes, *, version: object = 1001, keys: bytes = pickle.dumps([], 2)
) -> Path:
    """A pickle where PyTorch before 1.6 had its third."""
    head = [0x1950A86A20F9469CFC6C, version, {"little_endian": True}]
    start = b"".join(pickle.dumps(value, 2) for value in head)
    path.write_bytes(start + content + keys)
    return path


def doubled(times: int = 60) -> list:
    """A list that is short to write and endless to read out."""
    value: list = ["x" * 99]
    for _ in range(times):
        value = [value, value]
    return value


def tensor_pickle(
    *,
    numel: int = 4,
    size: tuple = (4,),
    stride: tuple = (1,),
    offset: int = 0,
    key: str = "0",
    dtype: object = None,
    name: object = "w",
) -> bytes:
    """A state dict of one tensor that may say anything of itself."""

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            if isinstance(obj, Storage):
                return ("storage", torch.FloatStorage, key, "cpu", numel)
            return None

    sink = io.BytesIO()
    parts = (Storage(), offset, size, stride, False, {})
    rebuilt = Call(torch._utils._rebuild_tensor_v2, *parts)
    if dtype is not None:
        rebuilt = Call(torch._utils._rebuild_tensor_v3, *parts, dtype)
    Pickler(sink, 2).dump({name: rebuilt})
    return sink.getvalue()


def hostile_files(folder: Path, canary: Path) -> dict[str, tuple[Path, str]]:
    """Every file, and what its refusal must name."""
    found: dict[str, tuple[Path, str]] = {}
    for module, name in (("posix", "system"), ("builtins", "eval")):
        for form, content in by_hand(module, name, canary).items():
            for kind, write in (("zip", as_zip), ("legacy", as_legacy)):
                label = f"{name} {form} {kind}"
                path = write(folder / f"{label}.pth".replace(" ", "_"), content)
                found[label] = path, f"{module}.{name}"
    for module, name in _NAMES:
        content = by_hand(module, name, canary)["reduce"]
        path = as_zip(folder / f"{module}.{name}.pt", content)
        found[f"{module}.{name}"] = path, f"{_MODERN.get(module, module)}.{name}"
    found |= _odd_pickles(folder)
    found |= _odd_archives(folder)
    found |= _other_files(folder)
    good, endless = tensor_pickle(), pickle.dumps(doubled(), 2)
    for label, path, names in (
        ("endless version", {"version": doubled()}, "not of version 1001"),
        ("long version", {"version": 1 << 33_000}, "not of version 1001"),
        ("endless keys", {"keys": endless}, "lacks the numbers"),
        ("long key", {"keys": pickle.dumps([1 << 33_000], 2)}, "lacks the numbers"),
    ):
        found[label] = as_legacy(folder / f"{label}.pth".replace(" ", "_"), good, **path), names
    return found


_MODERN = {"__builtin__": "builtins"}
_NAMES = [
    ("nt", "system"), ("os", "popen"), ("os", "execv"), ("os", "remove"), ("sys", "exit"),
    ("subprocess", "Popen"), ("subprocess", "check_output"), ("builtins", "exec"),
    ("builtins", "compile"), ("builtins", "open"), ("builtins", "getattr"),
    ("builtins", "__import__"), ("__builtin__", "apply"), ("importlib", "import_module"),
    ("runpy", "run_path"), ("socket", "create_connection"), ("ctypes", "CDLL"),
    ("urllib.request", "urlopen"), ("webbrowser", "open"), ("shutil", "rmtree"),
    ("pickle", "loads"), ("torch", "load"), ("torch.serialization", "load"),
    ("torch.hub", "load"), ("torch.storage", "_load_from_bytes"), ("torch.jit", "load"),
    ("torch", "serialization.os.system"), ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    ("torch.fx.graph_module", "reduce_graph_module"), ("torch._tensor", "_rebuild_from_type_v2"),
    ("numpy.testing._private.utils", "runstring"), ("numpy.f2py.crackfortran", "getlincoef"),
    ("operator", "methodcaller"), ("functools", "partial"), ("timeit", "timeit"),
    ("asyncio.unix_events", "_UnixSubprocessTransport._start"), ("pip", "main"),
    ("cProfile", "run"), ("pdb", "run"), ("code", "InteractiveInterpreter.runcode"),
    ("lib2to3.pgen2.pgen", "ParserGenerator.make_label"), ("idlelib.pyshell", "main"),
    ("types", "CodeType"), ("types", "FunctionType"), ("__main__", "Network"),
    ("collections", "namedtuple"), ("site", "main"), ("ensurepip", "_run_pip"),
]  # fmt: skip


def _odd_pickles(folder: Path) -> dict[str, tuple[Path, str]]:
    deep = b"\x80\x02" + b"}" + b"\x85" * 200_000 + b"."
    key = b"\x80\x02}N" + b"\x85" * 200_000 + b"Ns."
    nested = pickle.dumps(Call(torch.load, "inner.pt"), 2)
    cases = {
        "persistent text": (b"Pelsewhere\n.", "PERSID"),
        "persistent other": (b"\x80\x02X\x01\x00\x00\x00aQ.", "not a readable pickle"),
        "extension": (b"\x80\x02\x82\x01.", "EXT1"),
        "buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
        "deep": (deep, "not a state dict"),
        "deep key": (key, "not a state dict"),
        "no end": (b"\x80\x02}", "not a readable pickle"),
        "empty stack": (b"\x80\x02.", "not a readable pickle"),
        "no mark": (b"\x80\x02}u.", "not a readable pickle"),
        "long text": (b"\x80\x02X\xff\xff\xff\x7fabc.", "not a readable pickle"),
        "many": (b"\x80\x02" + b"}0" * 1_100_000 + b".", "steps"),
        "nested load": (nested, "torch.serialization.load"),
        "huge storage": (tensor_pickle(numel=2**39, size=(2**39,)), "needs 549,755,813,888"),
        "endless storage": (tensor_pickle(numel=2**62, size=(4,)), "claims"),
        "negative": (tensor_pickle(numel=-4), "claims -4"),
        "beyond": (tensor_pickle(offset=3), "larger than its data"),
        "stretched": (tensor_pickle(size=(2**20, 2**20), stride=(0, 0)), "larger than its data"),
        "negative stride": (tensor_pickle(stride=(-1,)), "not a readable pickle"),
        "short data": (tensor_pickle(numel=1000, size=(1000,)), "needs 1,000 numbers"),
        "no axes' end": (
            tensor_pickle(size=(2**39,) * 300_000, stride=(0,) * 300_000),
            "not a readable pickle",
        ),
        "stretched a million times": (
            tensor_pickle(numel=4, size=(2**30,), stride=(0,)),
            "larger than its data",
        ),
        "nothing of endless size": (
            tensor_pickle(size=(0, 2**39, 2**39), stride=(1, 1, 1)),
            "larger than its data",
        ),
        "no dtype": (tensor_pickle(size=(0,), dtype=list), "not a readable pickle"),
        "beyond all numbers": (
            tensor_pickle(size=(2, 2), stride=(2**39, 2**39)),
            "larger than its data",
        ),
        "a name of 10,000 digits": (tensor_pickle(name=1 << 33_000), "not a state dict"),
        "a name of 100 lines": (pickle.dumps({"line\n" * 100: 1}, 2), "found line line"),
        "escaping key": (tensor_pickle(key="../../../etc/passwd"), "lacks"),
    }
    return {
        label: (as_zip(folder / f"odd_{i}.pth", content, **{"data/0": bytes(16)}), names)
        for i, (label, (content, names)) in enumerate(cases.items())
    }


def _odd_archives(folder: Path) -> dict[str, tuple[Path, str]]:
    good, found = tensor_pickle(), {}
    numbers = {"data/0": bytes(16)}
    for label, member, names in (
        ("traversal", "../../evil", "leads out of the archive"),
        ("windows traversal", "..\\evil", "leads out of the archive"),
        ("drive", "C:/evil", "leads out of the archive"),
    ):
        path = as_zip(folder / f"archive_{label}.pth", good, **numbers, **{member: b"x"})
        found[label] = path, names
    path = as_zip(folder / "archive_absolute.pth", good, **numbers)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("/etc/evil", b"x")
    found["absolute"] = path, "leads out of the archive"
    path = as_zip(folder / "archive_link.pth", good)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("archive/data/0")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, b"/etc/passwd")
    found["link"] = path, "is a link"
    path = folder / "archive_bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", good)
        archive.writestr("archive/data/0", bytes(64 << 20))
    found["bomb"] = path, "is compressed"
    path = as_zip(folder / "archive_two_roots.pth", good, **numbers)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/data.pkl", good)
    found["two roots"] = path, "2 folders"
    path = as_zip(folder / "archive_big_endian.pth", good, **numbers, byteorder=b"big")
    found["big endian"] = path, "big-endian"
    content = as_zip(folder / "archive_twice.pth", good, **numbers, **{"data/1": b"x"})
    raw = content.read_bytes().replace(b"archive/data/1", b"archive/data/0")
    content.write_bytes(raw)
    found["twice"] = content, "twice"
    members = {f"data/{i:05}": b"" for i in range(45_000)}
    content = as_zip(folder / "archive_last_twice.pth", good, **members)
    raw = content.read_bytes().replace(b"archive/data/44999", b"archive/data/44998")
    content.write_bytes(raw)
    found["last of many twice"] = content, "twice"
    path = as_zip(folder / "archive_changed.pth", good, **numbers)
    raw = bytearray(path.read_bytes())
    raw[raw.index(bytes(16)) + 3] ^= 1
    path.write_bytes(raw)
    found["changed byte"] = path, "cannot be read"
    path = as_zip(folder / "archive_encrypted.pth", good, **numbers)
    raw = bytearray(path.read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(raw)
    found["encrypted"] = path, "is encrypted"
    path = as_zip(folder / "archive_many.pth", good, **{f"data/{i}": b"" for i in range(60_000)})
    found["many members"] = path, "60,003 members"
    inner = as_zip(folder / "archive_inner.pth", good, **numbers).read_bytes()
    path = as_zip(folder / "archive_nested.pth", inner)
    found["nested"] = path, "not a readable pickle"
    path = as_zip(folder / "archive_device.pth", good)
    with zipfile.ZipFile(path, "a") as archive:
        device = zipfile.ZipInfo("archive/data/0")
        device.external_attr = 0o060666 << 16
        archive.writestr(device, b"x" * 16)
    found["device"] = path, "no plain file"
    path = as_zip(folder / "archive_cut.pth", good, **numbers)
    path.write_bytes(path.read_bytes()[:-60])
    found["cut off"] = path, "is cut off"
    return found


def _other_files(folder: Path) -> dict[str, tuple[Path, str]]:
    found: dict[str, tuple[Path, str]] = {}
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    torch.save(network, folder / "whole.pth")
    found["whole network"] = folder / "whole.pth", "a whole pickled network (torch.nn"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both kinds of file are on their way out
        torch.jit.trace(network, torch.zeros(1, 3, 8, 8)).save(str(folder / "script.pt"))
        quantised = torch.quantize_per_tensor(torch.rand(4), 0.1, 0, torch.qint8)
    found["TorchScript"] = folder / "script.pt", "TorchScript program"
    program = torch.export.export(network.eval(), (torch.zeros(1, 3, 8, 8),))
    torch.export.save(program, str(folder / "program.pt2"))
    (folder / "program.pt2").rename(folder / "program.pt")
    found["exported program"] = folder / "program.pt", "name it .pt2"
    torch.save({"w": quantised}, folder / "quantised.pth")
    found["quantised"] = folder / "quantised.pth", "quantised weights"
    torch.save({"w": torch.eye(3).to_sparse()}, folder / "sparse.pth")
    found["sparse"] = folder / "sparse.pth", "tensors of another kind"
    torch.save([1, 2, 3], folder / "list.pth")
    found["list"] = folder / "list.pth", "expected names and tensors"
    torch.save({"lr": 0.1, "epoch": 3}, folder / "numbers.pth")
    found["numbers"] = folder / "numbers.pth", "found lr, epoch"
    with tarfile.open(folder / "old.pth", "w") as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    found["tar"] = folder / "old.pth", "is a tar archive"
    contents = {
        "html": (b"<!DOCTYPE html><html>", "web page"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "name it .h5"),
        "gzip": (b"\x1f\x8b\x08" + bytes(99), "gzip"),
        "empty": (b"", "not a file of weights"),
        "plain pickle": (pickle.dumps({"w": 1}), "not one that PyTorch wrote"),
        "noise": (bytes(range(255, 0, -1)), "not a file of weights"),
    }
    for label, (content, names) in contents.items():
        (folder / f"{label}.pt").write_bytes(content)
        found[label] = folder / f"{label}.pt", names
    return found
