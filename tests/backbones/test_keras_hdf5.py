"""HDF5 files that point outside, or claim what they do not hold: refused before any read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5f, h5p, h5s, h5t

from finicky.backbones.keras import hdf5
from finicky.backbones.keras.hdf5 import open_checked
from finicky.backbones.sandbox import first_look
from finicky.errors import DataError, UnsupportedModelError

SECRET = b"the secret of another file" + bytes(40)


def _external_storage(file: h5py.File, secret: Path) -> None:
    file.create_dataset("kernel", (16,), "f4", external=[(str(secret), 0, 64)])


def _external_link(file: h5py.File, secret: Path) -> None:
    file["kernel"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/data")


def _soft_to_external(file: h5py.File, secret: Path) -> None:
    file["hidden/far"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/data")
    file["kernel"] = h5py.SoftLink("/hidden/far")


def _virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "data", (16,))
    file.create_virtual_dataset("kernel", layout)


def _absolute(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    file.create_dataset("kernel", (4,), "f4", external=[("/etc/hostname", 0, 16)])


def _relative(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    file["kernel"] = h5py.ExternalLink("../../other.h5", "/data")


def _loop(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    inner = file.create_group("layers/inner")
    inner["again"] = file["layers"]


def _soft_loop(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    file["kernel"] = h5py.SoftLink("/kernel")


def _huge_shape(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    file.create_dataset("kernel", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def _zero_storage(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    create = h5p.create(h5p.DATASET_CREATE)
    create.set_alloc_time(h5d.ALLOC_TIME_LATE)
    h5d.create(file.id, b"kernel", h5t.NATIVE_FLOAT, h5s.create_simple((1000, 1000)), create)


def _huge_attribute(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    file.attrs["layer_names"] = np.zeros(5 << 20)


def _variable_length(file: h5py.File, secret: Path) -> None:  # noqa: ARG001
    file.create_dataset("kernel", (3,), h5py.vlen_dtype(np.float32))


CASES: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "external storage": (_external_storage, "'kernel' is refused: its storage is external"),
    "external link": (_external_link, "'kernel' is refused: it is an external link"),
    "soft to external": (_soft_to_external, "'(kernel|hidden/far)' is refused: it is a"),
    "virtual dataset": (_virtual, "'kernel' is refused: it is a virtual dataset"),
    "absolute path": (_absolute, "'kernel' is refused: its storage is external"),
    "relative path": (_relative, "'kernel' is refused: it is an external link"),
    "loop": (_loop, "'layers/inner/again' is refused: .* loop"),
    "soft loop": (_soft_loop, "'kernel' is refused: it is a soft link"),
    "huge shape": (_huge_shape, "'kernel' is refused: it claims 4,398,046,511,104 bytes"),
    "zero storage": (_zero_storage, "'kernel' is refused: it claims 4,000,000 bytes and stores 0"),
    "huge attribute": (_huge_attribute, "attribute layer_names of /' is refused: it has"),
    "variable length": (_variable_length, "'kernel' is refused: it holds variable-length rows"),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "secret.bin"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    with h5py.File(path.with_suffix(".h5"), "w", libver="latest") as file:
        file["data"] = np.arange(16, dtype=np.float32)
    return path


@pytest.mark.parametrize("case", CASES)
def test_what_points_outside_is_refused_before_any_read(
    case: str, tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, message = CASES[case]
    path = tmp_path / "model.h5"
    with h5py.File(path, "w", libver="latest") as file:
        make(file, secret)
    with pytest.raises(UnsupportedModelError, match=message):
        first_look("keras", path)

    def no_read(*_: object, **__: object) -> None:
        raise AssertionError("a dataset was read")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", no_read)
    with pytest.raises(UnsupportedModelError, match=message), open_checked(path, "model.h5"):
        pass


def test_a_user_defined_link_is_refused(tmp_path: Path) -> None:
    """Link class 187, made by changing an external link's class (64) in the file."""
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file["kernel"] = h5py.ExternalLink("other.h5", "/data")
    content = path.read_bytes()
    link = content.index(b"\x06kernel") - 1
    assert content[link] == 64
    path.write_bytes(content[:link] + bytes([187]) + content[link + 1 :])
    with pytest.raises(UnsupportedModelError, match="'kernel' is refused: it is a user-defined"):
        first_look("keras", path)


def test_strange_filters_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        create = h5p.create(h5p.DATASET_CREATE)
        create.set_chunk((4,))
        create.set_filter(32_001, h5py.h5z.FLAG_OPTIONAL, ())
        h5d.create(file.id, b"kernel", h5t.NATIVE_FLOAT, h5s.create_simple((4,)), create)
    with pytest.raises(UnsupportedModelError, match="'kernel' is refused"):
        first_look("keras", path)


def test_what_a_plain_file_holds_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    with h5py.File(path, "w") as file:
        file.create_dataset("a/kernel", data=weights, compression="gzip", shuffle=True)
        file.attrs["keras_version"] = "2.3.0"
        file.attrs["layer_names"] = [b"conv", b"bn"]
        file["a"].attrs["weight_names"] = np.zeros(0)
    with path.open("rb") as stream:
        for source in (path, stream):
            with open_checked(source, "model.h5") as safe:
                assert safe.texts("", "layer_names") == ["conv", "bn"]
                assert safe.texts("", "keras_version") == ["2.3.0"]
                assert safe.texts("a", "weight_names") == []
                np.testing.assert_array_equal(safe.array("a/kernel"), weights)


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"<html>" * 100])
def test_what_is_no_hdf5_file_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.h5 is damaged or no HDF5 file"):
        first_look("keras", path)


def test_old_hdf5_is_warned_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "x.h5", "w"):
        pass
    monkeypatch.setattr(hdf5.h5py.version, "hdf5_version_tuple", (1, 14, 6))
    with pytest.warns(UserWarning, match="use h5py with HDF5 2.0"):  # noqa: SIM117
        with open_checked(tmp_path / "x.h5", "x.h5"):
            pass
    assert h5f.is_hdf5(str(tmp_path / "x.h5").encode())
