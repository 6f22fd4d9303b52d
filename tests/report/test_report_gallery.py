from collections import OrderedDict

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from finicky.backbones import Backbone, Preprocessing, Provenance, freeze, load_backbone
from finicky.classes import DEFAULT_CLASSES
from finicky.data.pairs import Pair
from finicky.errors import DataError
from finicky.files import read_json, write_json
from finicky.importance import find_taps
from finicky.masks import write_mask
from finicky.project import Project
from finicky.report import Gallery, GalleryOptions, write_gallery, write_report, write_run_gallery
from finicky.report.gallery import pick_filters
from finicky.report.pictures import SIDE, busiest_crop, jpeg, plain, with_outline, with_response

TARGETS = DEFAULT_CLASSES.targets()
NAN = float("nan")


def toy_backbone():
    """Channel 0 answers to dark, 1 to bright, 2 never, 3 to dark more weakly."""
    conv1 = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        conv1.weight.zero_()
        for channel, (weight, bias) in enumerate([(-1, 1), (1, 0), (0, -1), (-0.5, 0.4)]):
            conv1.weight[channel, 0] = weight
            conv1.bias[channel] = bias
    conv2 = nn.Conv2d(4, 2, 3, padding=1)
    nn.init.constant_(conv2.weight, 0.1)
    layers = OrderedDict(conv1=conv1, relu1=nn.ReLU(), conv2=conv2, relu2=nn.ReLU())
    scale = Preprocessing("rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    provenance = Provenance("made for a test", "none")
    return Backbone("toy", freeze(nn.Sequential(layers)), scale, provenance, 8)


@pytest.fixture
def pairs(tmp_path):
    """Five white photos with a black bar on the left that is marked; one without any mark."""
    made = []
    for number in range(6):
        photo = np.full((64, 96, 3), 255, dtype=np.uint8)
        ids = np.zeros((64, 96), dtype=np.uint8)
        if number:
            photo[:, 8 : 8 + 4 * number] = 0
            ids[:, 8 : 8 + 4 * number] = 1
        key = f"{number}.png"
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(photo).save(tmp_path / "photos" / key)
        write_mask(tmp_path / "masks" / f"{key}.png", ids, DEFAULT_CLASSES)
        made.append(Pair(key, tmp_path / "photos" / key, tmp_path / "masks" / f"{key}.png"))
    return made


SCORES = {
    "conv1": np.array([0.9, 0.1, 0.0, 0.5]),
    "conv2": np.array([0.2, 0.3]),
}


def make(pairs, folder, **options):
    return write_gallery(
        toy_backbone(),
        pairs,
        SCORES,
        folder,
        classes=DEFAULT_CLASSES,
        targets=TARGETS,
        options=GalleryOptions(**{"layers": 2, "filters": 1, "photos": 2, **options}),
    )


def test_pick_filters_by_hand():
    importance = np.array([0.5, NAN, 0.9, 0.1, 0.2, 0.0, 0.7])
    answering = np.array([1.0, 1.0, 0.01, 0.5, 0.5, 0.0, 0.5])
    assert pick_filters(importance, answering, 2) == ([2, 6], [4, 3])


def test_pick_filters_never_shows_one_twice():
    best, worst = pick_filters(np.array([0.1, 0.2, 0.3]), np.ones(3), 3)
    assert best == [2, 1] and worst == [0]


def test_pick_filters_leaves_out_worst_that_hardly_answer():
    importance, answering = np.array([0.9, 0.0, 0.1]), np.array([0.01, 0.01, 0.5])
    assert pick_filters(importance, answering, 1) == ([0], [2])


def test_equal_importance_takes_the_lower_channel():
    best, worst = pick_filters(np.zeros(6), np.ones(6), 2)
    assert best == [0, 1] and worst == [3, 2]


def test_gallery_shows_best_and_worst_that_answer(pairs, tmp_path):
    gallery = make(pairs, tmp_path / "gallery")
    first = gallery.layers[0]
    assert (first.name, first.number, first.of, first.channels) == ("conv1", 1, 2, 4)
    assert [f.channel for f in first.best] == [0]
    assert [f.channel for f in first.worst] == [1]  # channel 2 never answers
    assert first.worst[0].importance == pytest.approx(0.1)
    assert (first.best[0].rank, first.worst[0].rank) == (1, 3)


def test_answer_is_orange_where_it_is_and_grey_elsewhere(pairs, tmp_path):
    gallery = make(pairs, tmp_path / "gallery", photos=1)
    shown = gallery.layers[0].best[0]
    picture = np.asarray(Image.open(tmp_path / "gallery" / shown.pictures[0])).astype(int)
    assert picture.shape == (SIDE, SIDE, 3)
    # The middle photo has a bar of 12 px from x = 8 in a square of 64: 28 to 70 of 224.
    red, _, blue = picture[112, 48]
    assert red > 180 and blue < 80
    red, green, blue = picture[112, 150]
    assert abs(red - blue) < 12 and abs(red - green) < 12


def test_photos_are_those_with_marks_of_all_sizes(pairs, tmp_path):
    gallery = make(pairs, tmp_path / "gallery", photos=5)
    assert [photo.key for photo in gallery.photos] == ["5.png", "4.png", "3.png", "2.png", "1.png"]


def test_same_arguments_same_files(pairs, tmp_path):
    first, second = make(pairs, tmp_path / "a"), make(pairs[::-1], tmp_path / "b")
    assert first == second
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == sorted(p.name for p in (tmp_path / "b").iterdir())
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )


def test_gallery_reads_back_as_written(pairs, tmp_path):
    gallery = make(pairs, tmp_path / "gallery")
    assert Gallery.read(tmp_path / "gallery") == gallery
    assert Gallery.read(tmp_path / "none") is None


def test_nothing_marked_draws_nothing(pairs, tmp_path):
    assert make(pairs[:1], tmp_path / "gallery") is None
    assert not (tmp_path / "gallery").exists()


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": "finicky-gallery", "version": 2}'])
def test_damaged_gallery_is_refused_in_words(tmp_path, text):
    (tmp_path / "gallery.json").write_text(text)
    with pytest.raises(DataError, match="is no gallery of this version"):
        Gallery.read(tmp_path)


def test_backbone_is_left_as_it_was(pairs, tmp_path):
    backbone = toy_backbone()
    write_gallery(backbone, pairs, SCORES, tmp_path / "g", classes=DEFAULT_CLASSES, targets=TARGETS)
    assert not any(m._forward_hooks for m in backbone.module.modules())


def test_busiest_crop_is_where_most_is_marked():
    photo, marked = np.zeros((300, 500, 3), np.uint8), np.zeros((300, 500), bool)
    marked[250:, 450:] = True
    photo[marked] = 7
    crop, mark = busiest_crop(photo, marked)
    assert crop.shape == (224, 224, 3) and mark.shape == (224, 224)
    assert mark.sum() == 50 * 50
    assert (crop[mark] == 7).all()


def test_small_photo_is_one_square_crop():
    crop, mark = busiest_crop(np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), bool))
    assert crop.shape == (40, 40, 3) and mark.shape == (40, 40)
    assert plain(crop).shape == (SIDE, SIDE, 3)


def test_outline_keeps_away_from_what_it_surrounds():
    marked = np.zeros((SIDE, SIDE), bool)
    marked[100:110, 100:110] = True
    picture = np.full((SIDE, SIDE, 3), 255, np.uint8)
    drawn = with_outline(picture, marked)
    changed = (drawn != 255).any(2)
    assert changed.any() and not changed[97:113, 97:113].any()
    assert changed[95:115, 95:115].sum() == changed.sum()
    assert (picture == 255).all()


def test_response_of_zero_leaves_a_grey_photo():
    picture = np.full((SIDE, SIDE, 3), (200, 10, 90), np.uint8)
    drawn = with_response(picture, np.zeros((SIDE, SIDE)))
    assert (drawn[..., 0] == drawn[..., 1]).all() and (drawn[..., 1] == drawn[..., 2]).all()


def test_jpeg_holds_no_metadata():
    content = jpeg(np.zeros((8, 8, 3), np.uint8))
    assert content.startswith(b"\xff\xd8") and b"Exif" not in content


def test_page_shows_the_gallery_and_what_was_kept(make_run, pairs):
    root = make_run(skill={1.0: 2.5, 0.25: 2.4})  # keeps channels 0 and 1 of conv1
    make(pairs, root / "gallery", filters=2)
    write_report(root)
    text = (root / "report.html").read_text(encoding="utf-8")
    assert text.count("data:image/jpeg;base64,") == 2 * 2 * 2 + 2 * (4 + 2 - 1)
    heads = [part.split("<br>")[0] for part in text.split('<th scope="col">filter ')[1:]]
    kept = {head.split(":")[0]: ">kept<" in head for head in heads[:3]}
    assert kept == {"0": True, "1": True, "3": False}
    assert "2 of 4 filters kept" in text.replace("\u00a0", " ")


def test_another_choice_changes_kept_without_new_pictures(make_run, pairs):
    root = make_run(skill={1.0: 2.5, 0.25: 2.4})
    make(pairs, root / "gallery")
    before = {p.name: p.read_bytes() for p in (root / "gallery").iterdir()}
    plan = root / "candidates" / "keep-0.25" / "plan.json"
    value = read_json(plan)
    value["kept"]["conv1"] = [1]
    write_json(plan, value)
    write_report(root)
    text = (root / "report.html").read_text(encoding="utf-8")
    assert 'filter 0: <span class="cut">' in text
    assert before == {p.name: p.read_bytes() for p in (root / "gallery").iterdir()}


@pytest.mark.parametrize("name", ["../run.json", "/etc/passwd", "a.html", "..\\x.jpg", "gone.jpg"])
def test_strange_file_names_in_a_gallery_are_refused(make_run, pairs, name):
    root = make_run(skill={1.0: 2.5, 0.25: 2.4})
    make(pairs, root / "gallery")
    card = read_json(root / "gallery" / "gallery.json")
    card["photos"][0]["photo"] = name
    write_json(root / "gallery" / "gallery.json", card)
    with pytest.raises(DataError, match=r"names a strange file|cannot read"):
        write_report(root)


@pytest.mark.usefixtures("pairs")
def test_run_gallery_uses_photos_of_the_training_split_only(make_run, tmp_path):
    root = make_run(skill={1.0: 2.5, 0.25: 2.4})
    backbone = load_backbone("alexnet", weights="random")
    names = list(find_taps(backbone.module, 64))
    widths = [m.out_channels for m in backbone.module.modules() if isinstance(m, nn.Conv2d)]
    scores = {n: np.linspace(0, 1, w) for n, w in zip(names, widths, strict=True)}
    np.savez(root / "importance.npz", **scores)
    told = read_json(root / "run.json")
    told["conditions"] |= {"backbone": "alexnet", "weights": "random", "weights_sha256": None}
    told["photos"]["train"] = ["2.png", "4.png"]
    write_json(root / "run.json", told)
    project = Project(tmp_path, tmp_path / "photos", tmp_path / "masks", tmp_path / "runs")
    gallery = write_run_gallery(root, project)
    assert [photo.key for photo in gallery.photos] == ["4.png", "2.png"]
    assert Gallery.read(root / "gallery") == gallery


@pytest.mark.usefixtures("pairs")
def test_run_gallery_needs_the_weights_of_the_run(make_run, tmp_path):
    root = make_run(skill={1.0: 2.5, 0.25: 2.4})
    np.savez(root / "importance.npz", features=np.zeros(3))
    told = read_json(root / "run.json")
    told["conditions"] |= {"backbone": "alexnet", "weights": "random", "weights_sha256": "0" * 64}
    write_json(root / "run.json", told)
    project = Project(tmp_path, tmp_path / "photos", tmp_path / "masks", tmp_path / "runs")
    with pytest.raises(DataError, match="are not those of"):
        write_run_gallery(root, project)


def test_run_without_importance_has_no_gallery(make_run, tmp_path):
    project = Project(tmp_path, tmp_path / "photos", tmp_path / "masks", tmp_path / "runs")
    assert write_run_gallery(make_run(skill={1.0: 2.5, 0.25: 2.4}), project) is None
