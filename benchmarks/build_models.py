"""Build the ready-made crack models from material whose terms allow it.

    python benchmarks/build_models.py METU --work FOLDER [--only crack-vgg16,...]

METU is Özgenel's concrete set (Mendeley Data 5y9wdsg2zt, CC BY 4.0): ``crack/``, ``background/``
and ``split.csv``. To it come surfaces from our own generator in six styles, with exact masks.
METU has no masks: its wide, dark cracks are outlined by their darkness, and an image where that
gives no long thin region is left out. Every photo is drawn once at another scale, light, tint,
contrast, blur and noise.

All of it becomes one project in ``FOLDER/project``; in ``FOLDER/small`` its training photos are cut
to 240 px, which is enough to score filters on. Then ``FOLDER/NAME`` (`model_training`): filters are
scored, the network is cut and repaired, trained with its head on tiles and masks, and given a map.
Weights, taps, epochs and thresholds (`model_limits`) are chosen on METU's training part and
generated surfaces alone; ``FOLDER/NAME/final.onnx`` is what ships. ``benchmarks/check_models.py``
measures the finished models on photographs that this file never opens.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from check_models import Model
from model_limits import choose_limits
from model_training import (
    Material,
    Recipe,
    cut_network,
    export_network,
    open_material,
    own_quality,
)
from PIL import Image, ImageFilter
from scipy import ndimage

from finicky.classes import DEFAULT_CLASSES
from finicky.data.splits import carve_validation, read_split_csv
from finicky.data.surfaces import SurfaceStyle, make_surface
from finicky.export.onnx_file import read_metadata, write_metadata
from finicky.files import atomic_path, read_json, write_json, write_text
from finicky.images import read_image
from finicky.masks import IGNORE, write_mask
from finicky.sweep import SweepSettings
from finicky.sweep.inputs import cut
from finicky.training.scratch import ScratchSettings, train_backbone

TILE, SMALL = 96, 240
EPOCHS = 6
FINAL, LIMIT_PHOTOS = "final.onnx", 60
GENERATED = 480
METU_MOST = {"train": 180, "validation": 50, "test": 60}  # of each class
CRACK, BACKGROUND = (DEFAULT_CLASSES.named(name).id for name in ("crack", "background"))

ASPHALT = {
    "aggregate_probability": 1.0,
    "aggregate_share": (0.05, 2.5),
    "relief": (0.3, 1.8),
    "brightness": (0.25, 0.62),
    "formwork_probability": 0.05,
    "pores_per_megapixel": (0.0, 400.0),
    "blur_px": (0.35, 1.8),
    "shadow_probability": 0.2,
    "light_gradient": (0.0, 0.5),
}
STYLES = (
    SurfaceStyle(crack_darkness=(0.35, 0.9)),
    SurfaceStyle(crack_width_px=(3.0, 16.0), crack_darkness=(0.4, 0.95), blur_px=(0.4, 1.5)),
    SurfaceStyle(
        **ASPHALT,
        aggregate_radius_px=(0.8, 4.0),
        aggregate_contrast=(0.1, 0.35),
        grain_contrast=(0.1, 0.45),
        crack_width_px=(1.5, 6.0),
        crack_darkness=(0.4, 0.95),
    ),
    SurfaceStyle(
        **ASPHALT,
        aggregate_radius_px=(2.0, 14.0),
        aggregate_contrast=(0.1, 0.35),
        grain_contrast=(0.1, 0.3),
        crack_width_px=(3.0, 16.0),
        crack_darkness=(0.4, 0.95),
    ),
    # Worn asphalt whose stones, light and dark, stand out more than many a crack.
    SurfaceStyle(
        **ASPHALT,
        aggregate_radius_px=(3.0, 26.0),
        aggregate_contrast=(0.3, 0.7),
        grain_contrast=(0.06, 0.3),
        crack_width_px=(5.0, 26.0),
        crack_darkness=(0.6, 1.0),
    ),
    SurfaceStyle(
        **ASPHALT,
        aggregate_radius_px=(1.0, 9.0),
        aggregate_contrast=(0.2, 0.6),
        grain_contrast=(0.1, 0.4),
        crack_width_px=(2.0, 12.0),
        crack_darkness=(0.5, 1.0),
    ),
)

# Keep ratios make files of at most 1.5 MB. AlexNet is trained before: see `train_alexnet`.
RECIPES = {
    "crack-vgg16": Recipe("vgg16", 0.15, scored=80, epochs=8),
    "crack-alexnet": Recipe("alexnet-bn", 0.3, scored=200, epochs=12),
    "crack-efficientnet-lite0": Recipe("efficientnet-lite0", 0.25, scored=200, epochs=8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("metu", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", default=",".join(RECIPES))
    options = parser.parse_args()
    if not (options.work / "project" / "split.csv").is_file():
        make_project(options.metu, options.work / "project")
    if not (options.work / "small" / "split.csv").is_file():
        make_small(options.work / "project", options.work / "small")
    for name in options.only.split(","):
        start = time.monotonic()
        build(name, options.work)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


def build(name: str, work: Path) -> None:
    """One model; what an earlier start finished is not redone."""
    recipe, out = RECIPES[name], work / name
    whole, small = (open_material(work / folder, TILE) for folder in ("project", "small"))
    if name == "crack-alexnet":
        recipe = replace(recipe, backbone=str(train_alexnet(whole, work)))
    cut_network(recipe, small, out, _progress)
    export_network(name, recipe, whole, out, _progress)
    if not (out / FINAL).is_file():
        finish(whole, out)


def finish(material: Material, out: Path) -> None:
    """``final.onnx``: the network with the thresholds that ship; ``final.json``: how it does."""
    clean = material.crops("validation", only="metu/background")
    photos = material.crops("validation", LIMIT_PHOTOS)
    tiles, _ = material.tiles("validation", stride=TILE, per_photo=3)
    flattened = read_json(out / "model.json")["map"]["flattened"]
    limits = choose_limits(out / "model.onnx", clean, photos, tiles, flattened=flattened)
    with atomic_path(out / FINAL) as temporary:
        shutil.copyfile(out / "model.onnx", temporary)
        write_metadata(
            temporary,
            read_metadata(temporary) | {"thresholds": {**limits, "map_flattened": flattened}},
        )
        quality = own_quality(material, Model(temporary).probabilities, limits["tile"])
    write_json(out / "final.json", read_json(out / "model.json") | {"tiles": quality})
    print(limits, {k: v["balanced_accuracy"] for k, v in quality.items()}, flush=True)


def train_alexnet(material: Material, work: Path) -> Path:
    """From scratch, on class folders of tiles."""
    tiles, out = work / "alexnet-tiles", work / "alexnet-bn"
    settings = SweepSettings(tile=TILE, tiles_per_photo=4)
    if not (tiles / "tiles.csv").is_file():
        cut(material.project, material.evidence, settings, tiles)
    if not (out / "backbone.json").is_file():
        report = train_backbone(
            "alexnet-bn", tiles, out, ScratchSettings(size=TILE, epochs=EPOCHS), progress=_progress
        )
        print(f"alexnet-bn from scratch: {report}", flush=True)
    return out


def make_project(metu: Path, out: Path) -> None:
    """Photos, masks and ``split.csv``, written last."""
    random = np.random.default_rng(0)
    rows = [("image", "split", "group")]
    for number in range(GENERATED):
        name = f"generated/{number:04d}.jpg"
        style = STYLES[number % len(STYLES)]
        surface = make_surface(7_000_000 + number, width=720, height=480, style=style)
        photo, mask = rescaled(surface.photo, surface.mask, random)
        _write(out, name, disturbed(photo, random), mask)
        split = ("train", "train", "train", "validation", "test")[(number // len(STYLES)) % 5]
        rows.append((name, split, name))
    for key, split, group in metu_photos(metu):
        photo = read_image(metu / key)
        mask = np.full(photo.shape[:2], BACKGROUND, np.uint8)
        if key.startswith("crack/"):
            found = dark_crack(photo)
            if found is None:
                continue
            mask = found
        photo, mask = rescaled(photo, mask, random, scales=(0.45, 1.0))
        name = f"metu/{Path(key).parent}-{Path(key).stem}.jpg"
        _write(out, name, disturbed(photo, random), mask)
        rows.append((name, split, group))
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    write_text(out / "split.csv", stream.getvalue())


def make_small(project: Path, out: Path) -> None:
    """The same photos, those of training cut to `SMALL` px around a place of their crack."""
    random = np.random.default_rng(0)
    listed = read_split_csv(project / "split.csv")
    for key, (split, _) in listed.items():
        photo = read_image(project / "photos" / key)
        mask = np.asarray(Image.open(project / "masks" / f"{key}.png"))
        if split == "train":
            places = np.argwhere(mask == CRACK)
            if not len(places):
                places = np.argwhere(np.ones_like(mask))
            middle = places[random.integers(len(places))] + random.integers(-60, 61, 2)
            most = np.maximum(0, np.array(mask.shape) - SMALL)
            y, x = np.clip(middle - SMALL // 2, 0, most)
            photo, mask = photo[y : y + SMALL, x : x + SMALL], mask[y : y + SMALL, x : x + SMALL]
        _write(out, key, photo, np.ascontiguousarray(mask))
    rows = [("image", "split", "group"), *((k, *listed[k]) for k in listed)]
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    write_text(out / "split.csv", stream.getvalue())


def metu_photos(metu: Path) -> list[tuple[str, str, str]]:
    """A fixed draw of METU's images; validation groups come out of its training part."""
    parts = carve_validation(read_split_csv(metu / "split.csv"), seed=0)
    found: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for path in sorted([*metu.glob("crack/*.jpg"), *metu.glob("background/*.jpg")]):
        key = path.relative_to(metu).as_posix()
        split, group = parts[key]
        found.setdefault((path.parent.name, split), []).append((key, split, group))
    random = np.random.default_rng(0)
    return [
        entries[i]
        for (_, split), entries in sorted(found.items())
        for i in sorted(random.permutation(len(entries))[: METU_MOST[split]])
    ]


def dark_crack(photo: np.ndarray) -> np.ndarray | None:
    """A mask of a wide dark crack; what lies further off is not to be counted.

    The darkest region that stands out from its surroundings, if it is long and thin; else ``None``.
    """
    grey = ndimage.gaussian_filter(photo.astype(float).mean(2), 1.0)
    depth = ndimage.median_filter(grey[::3, ::3], 31).repeat(3, 0).repeat(3, 1)
    depth = depth[: grey.shape[0], : grey.shape[1]] - grey
    spread = 1.4826 * np.median(np.abs(depth - np.median(depth)))
    core = depth > max(0.55 * np.percentile(depth, 99.5), 3 * spread, 12)
    regions, count = ndimage.label(core, np.ones((3, 3)))
    if not count:
        return None
    sizes = ndimage.sum_labels(core, regions, range(1, count + 1))
    largest = regions == 1 + int(np.argmax(sizes))
    y, x = np.nonzero(largest)
    length = np.hypot(np.ptp(x), np.ptp(y))
    if length < 0.75 * min(grey.shape) or sizes.max() > 0.25 * grey.size:
        return None
    if sizes.max() / length > 30 or sizes.max() < 0.6 * sizes.sum():
        return None
    away = ndimage.distance_transform_edt(~largest)
    mask = np.where(away > 14, IGNORE, BACKGROUND).astype(np.uint8)
    fainter = depth > max(0.25 * np.percentile(depth, 99.5), 2 * spread)
    mask[fainter & ~largest] = IGNORE
    mask[(away > 0) & (away <= 2)] = IGNORE
    mask[largest] = CRACK
    return mask


def rescaled(
    photo: np.ndarray,
    mask: np.ndarray,
    random: np.random.Generator,
    *,
    scales: tuple[float, float] = (0.5, 1.3),
) -> tuple[np.ndarray, np.ndarray]:
    """At another size, turned and mirrored, cut to at most 480×480 px."""
    factor = np.exp(random.uniform(*np.log(scales)))
    side = tuple(max(TILE, round(s * factor)) for s in photo.shape[1::-1])
    image = Image.fromarray(photo).resize(side, Image.Resampling.LANCZOS)
    # A thin crack must not fall through the grid: a pixel is crack if a quarter of it is.
    cracked = Image.fromarray(((mask == CRACK) * 255).astype(np.uint8))
    share = np.array(cracked.resize(side, Image.Resampling.BOX))
    ids = np.array(Image.fromarray(mask).resize(side, Image.Resampling.NEAREST))
    ids = np.where(share >= 64, CRACK, np.where(ids == CRACK, BACKGROUND, ids)).astype(np.uint8)
    turn, mirror = int(random.integers(4)), bool(random.integers(2))
    found = []
    for values in (np.array(image), ids):
        values = np.rot90(values, turn)
        values = values[:, ::-1] if mirror else values
        found.append(np.ascontiguousarray(values[:480, :480]))
    return found[0], found[1]


def disturbed(photo: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another light, tint, sharpness and noise, as other cameras and days would give."""
    image = Image.fromarray(photo)
    if random.random() < 0.4:
        image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.4))))
    values = np.asarray(image).astype(float) / 255
    values = values ** np.exp(random.uniform(-0.5, 0.5))
    mean = values.mean()
    contrast = np.exp(random.uniform(np.log(0.7), np.log(1.8)))
    values = (values - mean) * contrast + mean + random.uniform(-0.12, 0.12)
    values *= 1 + random.uniform(-0.08, 0.08, 3)
    values += random.normal(0, random.uniform(0, 0.03), photo.shape)
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


def _write(out: Path, name: str, photo: np.ndarray, mask: np.ndarray) -> None:
    path = out / "photos" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path, quality=int(70 + len(name) * 7 % 26))
    target = out / "masks" / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_mask(target, mask, DEFAULT_CLASSES)


def _progress(stage: str, done: int, total: int) -> None:
    if done == total and total > 1 and stage != "score filters":  # that one ends at every photo
        print(f"  {time.strftime('%H:%M:%S')} {stage} {total}", flush=True)


if __name__ == "__main__":
    main()
