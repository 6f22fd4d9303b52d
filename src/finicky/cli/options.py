"""Options that several verbs share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write; new or empty.")]
Photos = Annotated[Path, typer.Option(help="Folder of photos.")]
Masks = Annotated[
    Path, typer.Option(help="Folder of masks, each under its photo's relative path and name.")
]
BackboneName = Annotated[
    str,
    typer.Option(
        "--backbone",
        help="vgg16, alexnet, alexnet-bn, efficientnet-lite0; torchvision:NAME or timm:NAME; a "
        "file (.onnx, .h5, .keras, .pt2; .pt, .pth or .safetensors with --arch); or a folder "
        "written by train-backbone.",
    ),
]
ProjectBackbone = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        help="As for prune: vgg16, torchvision:NAME, a file or a folder; default: the "
        "project's, or vgg16.",
    ),
]
WeightsSource = Annotated[
    str | None,
    typer.Option(
        "--weights",
        help="A checkpoint file, 'download', or 'random'; default: those that a pip package ships.",
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="Architecture of a file that holds only weights, such as torchvision:resnet18.",
    ),
]
PreprocessingName = Annotated[
    str | None,
    typer.Option(
        "--preprocessing",
        help="What the network expects of photos: imagenet (RGB, mean and deviation), caffe (BGR, "
        "mean), unit (0 to 1), signed (-1 to 1) or raw (0 to 255). Default: what its name or file "
        "says.",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="finicky: rank once, cut any network. original: the 2021 method to the letter, plain "
        "chains only."
    ),
]
Criterion = Annotated[
    str,
    typer.Option(
        help="What ranks filters under finicky. By masks: coverage (chosen in turn, no two "
        "alike), quantile-iou, photo-iou, best-iou, truncated-iou, rank, two-sided-rank, "
        "mask-correlation, signed-mask-correlation; by masks and labels of tiles: mask+class, "
        "iou+class, mask+iou+class; without masks, to compare: "
        "class-evidence, class-t, mean-activation, random, l1, l2, group-l2, fpgm, bn-scale, "
        "taylor, hessian."
    ),
]
BudgetLimits = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        help="A limit instead of a keep ratio: params=7%, macs=300M, size=1MB (of model.onnx) or "
        "latency=12ms (of model.onnx, p50 at batch 1, one thread, on this machine); % is of the "
        "unpruned network's. May be repeated; refused before any work if it cannot be kept.",
    ),
]
AllocationRule = Annotated[
    str,
    typer.Option(
        "--allocation",
        help="How channels are shared out under finicky. uniform: the keep ratio in every layer; "
        "global: the best scores of all layers together; sensitivity: more where a cut changes the "
        "network's answer more.",
    ),
]
MinChannels = Annotated[int, typer.Option(help="Least channels that a layer keeps, at least 1.")]
Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        help="Class whose pixels are evidence; may be repeated. Default: all of role target.",
    ),
]
TileSize = Annotated[int, typer.Option("--tile", help="Side of a tile in px.")]
Coverage = Annotated[
    float,
    typer.Option(
        help="Least share of a tile that the target must cover, in (0, 1]; tiles with less, but "
        "some, are left out."
    ),
]
Train = Annotated[
    str,
    typer.Option(
        help="After the cut: frozen (weights stay, a logistic head), finetune (head and network "
        "trained on, with the masks), scratch (the same shape with fresh weights). Several with "
        "commas, or all: each is a candidate, and the decision function chooses. auto: all frozen, "
        "and three small ones of the other kinds, which take minutes."
    ),
]
TrainTime = Annotated[
    str | None,
    typer.Option(
        "--time",
        help="So long for all training together, as 90s, 10min or 2h; default: 600 steps for each "
        "network, one to some minutes.",
    ),
]
Features = Annotated[
    str, typer.Option(help="How the last map becomes a vector: mean, max, mean+max or flat.")
]
Seed = Annotated[int, typer.Option(help="Of splits, tile choice and folds.")]
Force = Annotated[
    bool, typer.Option("--force", help="Throw away what an earlier command wrote there.")
]
Workers = Annotated[
    int,
    typer.Option(
        help="Processes that make candidates side by side, one thread each; 1: none but this one; "
        "0: one a core if the work is worth it. Changes no number."
    ),
]
ExecutorName = Annotated[
    str,
    typer.Option(
        "--executor",
        help="Where candidates are made: local (this machine), or ray (a Ray cluster). Changes no "
        "number.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Of a Ray cluster, such as auto or ray://head:10001; default: one on this machine "
        "that ends with the run."
    ),
]
Events = Annotated[
    bool,
    typer.Option(
        "--json", help="Print events as they happen, one JSON object a line, the result last."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
