"""VGG16's convolutions (Simonyan and Zisserman 2014, arXiv:1409.1556, table 1, column D)."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16() -> nn.Module:
    """13 convolutions with ReLU and 5 max poolings, without the fully connected head.

    14,714,688 parameters. Layers are named as in the paper's Keras form: ``block3_conv2``.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels = 3
    for block, (width, depth) in enumerate(_BLOCKS, start=1):
        for conv in range(1, depth + 1):
            layers[f"block{block}_conv{conv}"] = nn.Conv2d(channels, width, 3, padding=1)
            layers[f"block{block}_relu{conv}"] = nn.ReLU()
            channels = width
        layers[f"block{block}_pool"] = nn.MaxPool2d(2, 2)
    return nn.Sequential(layers)
