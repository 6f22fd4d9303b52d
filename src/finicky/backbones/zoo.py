"""``torchvision:NAME`` and ``timm:NAME``: other people's networks, with weights from the user."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finicky.backbones import weights as sources
from finicky.backbones.backbone import (
    IMAGENET_RGB,
    PREPROCESSINGS,
    Backbone,
    Preprocessing,
    Provenance,
    freeze,
)
from finicky.backbones.blueprint import Blueprint, Built
from finicky.backbones.split import split_network
from finicky.backbones.state_dict import read_tensors, strip_prefix
from finicky.backbones.tracing import fold_standardised, trace_network
from finicky.errors import (
    DataError,
    MissingDependencyError,
    UnsupportedModelError,
    UsageError,
    nearest_names,
)
from finicky.files import sha256_file

# Sides in px that are tried for the smallest that a network takes.
_SIZES = (32, 48, 64, 75, 96, 128, 160, 224)
# Large enough that the last map of every classifier is more than one pixel.
_EXAMPLE_SIZE = 224
_DEFAULT_CLASSES = 1000
# The end of a checkpoint's name that holds the beginning of its SHA-256.
_HASH = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|pt|safetensors)$")


@dataclass(frozen=True)
class _Card:
    """What a zoo knows of one network: where its weights are, under what terms, fed with what."""

    url: str | None
    license: str
    preprocessing: Preprocessing


@dataclass(frozen=True)
class _Zoo:
    """One library: the names it knows, how it makes a network, what it says of one."""

    title: str
    names: Callable[[], Iterable[str]]
    create: Callable[[str, int], nn.Module]
    card: Callable[[str], _Card]
    version: Callable[[], str]


def load(name: str, *, weights: str | Path | None = None) -> Backbone:
    """The network of that name, split into features and head.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        weights: A checkpoint file of that library's layout, ``"random"`` (seed 0) or
            ``"download"``: the published ones, only where their hash is published too.

    Raises:
        UsageError: Unknown name, or no weights were named.
        MissingDependencyError: The library is not installed.
        UnsupportedModelError: The network is no classifier with a feature map, such as a
            transformer, or the weights are of another one.
    """
    zoo, own = _find(name)
    if weights is None:
        raise UsageError(
            f"{name} comes without weights: pass --weights FILE, --weights download (fetched and "
            "checked) or --weights random (for trying out)"
        )
    card = zoo.card(own)
    classes, missing = _DEFAULT_CLASSES, set[str]()
    if weights == "random":
        network = _fresh(zoo, own, classes)
        preprocessing = replace(IMAGENET_RGB, origin="random weights expect nothing; ImageNet's")
        provenance = Provenance("random weights, seed 0", "none")
    else:
        path = _download(name, card) if weights == "download" else Path(weights)
        network, classes, missing = _filled(zoo, own, path)
        source = f"{zoo.title} {zoo.version()} network {own}, weights from {path.name}"
        preprocessing = replace(card.preprocessing, origin=f"{zoo.title}'s card of {own}")
        terms = card.license if weights == "download" else "as its owner states"
        provenance = Provenance(source, terms, sha256_file(path))
    spec = {"name": name, "classes": classes, "version": zoo.version()}
    features, head = split_zoo(network, name)
    head = _complete(features, head, missing, f"{Path(weights).name} is no checkpoint of {own}")
    return Backbone(
        name,
        freeze(features),
        preprocessing,
        provenance,
        _smallest(features, name),
        Blueprint("zoo", spec),
        None if head is None else freeze(head),
    )


def build(blueprint: Blueprint) -> Built:
    """Features and head with fresh weights."""
    try:
        name, classes = str(blueprint.spec["name"]), int(blueprint.spec["classes"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the blueprint of a zoo network is damaged: {error!r}") from error
    features, head = split_zoo(fresh(name, classes), name)
    return freeze(features), None if head is None else freeze(head)


def split_zoo(network: nn.Module, name: str) -> Built:
    """Trace a classifier and split it; auxiliary heads, used in training only, are left out."""
    example = torch.zeros(1, 3, _EXAMPLE_SIZE, _EXAMPLE_SIZE)
    fold_standardised(network)
    try:
        features, head = split_network(trace_network(network.eval(), example), example)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{name} cannot be used: {error}") from error
    _check_map(features, name)
    return features, head


def _check_map(features: nn.Module, name: str) -> None:
    """A wider photo must give a wider map, in the last axis: some networks keep channels there."""
    try:
        with _trying():
            narrow, wide = (
                features(torch.zeros(1, 3, _EXAMPLE_SIZE, _EXAMPLE_SIZE + more)).shape
                for more in (0, 64)
            )
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UnsupportedModelError(
            f"{name} cannot be used: it takes photos of {_EXAMPLE_SIZE} px only"
        ) from error
    if narrow[:3] != wide[:3] or narrow[3] >= wide[3]:
        raise UnsupportedModelError(
            f"{name} cannot be used: its map is no (N, C, h, w), as a convolutional network's is"
        )


def _find(name: str) -> tuple[_Zoo, str]:
    library, _, own = name.partition(":")
    zoo = _ZOOS[library]
    known = set(zoo.names())
    if own.split(".")[0] not in known:
        raise UsageError(f"{library} has no network {own!r}. {_nearest(own, known)}")
    return zoo, own


def _nearest(name: str, known: set[str]) -> str:
    """Hundreds of names are known: without a near miss, say how to list them."""
    clause = nearest_names(name, known)
    return clause if clause.startswith("Did you mean") else f"{len(known)} names are known."


def fresh(name: str, classes: int) -> nn.Module:
    """The whole network, auxiliary heads and all, with weights of seed 0."""
    return _fresh(*_find(name), classes)


def _fresh(zoo: _Zoo, name: str, classes: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return zoo.create(name, classes)


def _filled(zoo: _Zoo, name: str, path: Path) -> tuple[nn.Module, int, set[str]]:
    """The network with a checkpoint's weights and classes, and what the checkpoint lacks."""
    network = _fresh(zoo, name, _DEFAULT_CLASSES)
    tensors = strip_prefix(_modern_names(read_tensors(path)), network.state_dict())
    last, own = [(key, t) for key, t in network.state_dict().items() if t.ndim >= 2][-1]
    classes, theirs = _DEFAULT_CLASSES, tensors.get(last, own)
    # What fits but for the classes: a narrow tensor may claim a million of them.
    if len(theirs.shape) >= 2 and theirs.shape[1:] == own.shape[1:] and 0 < len(theirs) != classes:
        classes = len(theirs)
        network = _fresh(zoo, name, classes)
    return network, classes, fill(network, tensors, path, name)


def _complete(
    features: nn.Module, head: nn.Module | None, missing: set[str], refusal: str
) -> nn.Module | None:
    """The head, or None where weights of a backbone alone lack all of it."""
    lacking = missing & set(features.state_dict())
    if head is not None and missing & set(head.state_dict()):
        if not lacking and missing.issuperset(dict(head.named_parameters())):
            return None
        lacking |= missing & set(head.state_dict())
    if lacking:
        raise UnsupportedModelError(f"{refusal}: it lacks {min(lacking)}")
    return head


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str) -> set[str]:
    """Load a state dict of this network; returns what it lacks, refuses what does not fit."""
    own = network.state_dict()
    if strange := sorted(set(tensors) - set(own)):
        raise UnsupportedModelError(
            f"{path.name} is no checkpoint of {name}: it holds {strange[0]}, which is not in it"
        )
    for key, tensor in tensors.items():
        if tensor.shape != own[key].shape:
            raise UnsupportedModelError(
                f"{path.name} is no checkpoint of {name}: {key} has shape "
                f"{tuple(tensor.shape)}, expected {tuple(own[key].shape)}"
            )
    # Not load_state_dict: some networks rewrite themselves where the file says no version.
    with torch.no_grad():
        for key, tensor in tensors.items():
            own[key].copy_(tensor)
    # Old checkpoints lack the counter of batches, which only training looks at.
    lacking = (key for key in own if key not in tensors)
    return {key for key in lacking if not key.endswith("num_batches_tracked")}


def _modern_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DenseNet's published files say ``norm.1`` where the network has ``norm1``."""
    old = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d\.)")
    return {old.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}


def _download(name: str, card: _Card) -> Path:
    found = _HASH.search(card.url or "")
    if card.url is None or found is None:
        raise UsageError(
            f"the weights of {name} are published without a hash to check them by: fetch them "
            "yourself and pass --weights FILE"
        )
    return sources.download(card.url, found[1])


@contextlib.contextmanager
def _trying() -> Iterator[None]:
    """For calls that may fail: traced networks print where, before they raise."""
    with torch.inference_mode(), contextlib.redirect_stderr(io.StringIO()):
        yield


def _smallest(features: nn.Module, name: str) -> int:
    for size in _SIZES:
        try:
            with _trying():
                maps = features(torch.zeros(1, 3, size, size))
        except (RuntimeError, AssertionError, ValueError):
            continue
        if min(maps.shape) >= 1:
            return size
    raise UnsupportedModelError(f"{name} takes no photo of {_SIZES[0]} to {_SIZES[-1]} px")


def _torchvision() -> Any:
    """The library, also beside a torch of another build.

    Its wheel for CUDA finds no operators in a torch for CPUs and then fails to describe two of
    them that only detectors use (torchvision 0.28). Declared beforehand, it loads.
    """
    try:
        import torchvision
    except ModuleNotFoundError as error:
        raise _missing("torchvision", error) from error
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        for operator in ("torchvision::nms", "torchvision::qnms"):
            torch.library.define(operator, signature)
        import torchvision
    return torchvision


def _timm() -> Any:
    _torchvision()  # timm imports it
    try:
        import timm
    except ModuleNotFoundError as error:
        raise _missing("timm", error) from error
    return timm


def _missing(library: str, error: ModuleNotFoundError) -> MissingDependencyError:
    return MissingDependencyError(
        f"{library} networks need the package {error.name}: "
        'pip install "finicky-transfer-learning[zoo]"'
    )


def _torchvision_names() -> Iterable[str]:
    models = _torchvision().models
    return models.list_models(module=models)


def _torchvision_create(name: str, classes: int) -> nn.Module:
    # These two take minutes to draw weights that nobody wants, and warn about it.
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    return _torchvision().models.get_model(name, num_classes=classes, **extra)


def _torchvision_card(name: str) -> _Card:
    best = _torchvision().models.get_model_weights(name).DEFAULT
    if name in ("googlenet", "inception_v3"):
        # Their weights come from TensorFlow and want -1 to 1.
        preprocessing = PREPROCESSINGS["signed"]
    else:
        preset = best.transforms()
        preprocessing = _scaled(preset.mean, preset.std)
    return _Card(best.url, "BSD-3-Clause (torchvision)", preprocessing)


def _timm_create(name: str, classes: int) -> nn.Module:
    network: nn.Module = _timm().create_model(name, pretrained=False, num_classes=classes)
    for layer in network.modules():
        if type(layer).__name__ == "BlurPool2d" and getattr(layer, "channels", None):
            # One filter for all channels, instead of as many copies as the uncut map has.
            setattr(layer, "channels", None)  # noqa: B010
            layer.filt = layer.filt[:1].clone()  # type: ignore[index]
    return network


def _timm_card(name: str) -> _Card:
    card = _timm().models.get_pretrained_cfg(name)
    if card is None:
        return _Card(None, "unknown", IMAGENET_RGB)
    url = card.url if isinstance(card.url, str) else None
    return _Card(url, card.license or "as its owner states", _scaled(card.mean, card.std))


def _scaled(mean: Iterable[float], std: Iterable[float]) -> Preprocessing:
    """Statistics of photos from 0 to 1, in units of 0 to 255."""
    r, g, b = (round(255 * value, 6) for value in mean)
    deviations = tuple(round(255 * value, 6) for value in std)
    return Preprocessing("rgb", (r, g, b), deviations)  # type: ignore[arg-type]


_ZOOS = {
    "torchvision": _Zoo(
        "torchvision",
        _torchvision_names,
        _torchvision_create,
        _torchvision_card,
        lambda: str(_torchvision().__version__),
    ),
    "timm": _Zoo(
        "timm",
        lambda: _timm().list_models(),
        _timm_create,
        _timm_card,
        lambda: str(_timm().__version__),
    ),
}
