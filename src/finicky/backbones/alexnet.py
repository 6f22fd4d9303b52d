"""AlexNet's convolutions in two forms (Krizhevsky et al. 2012; 2014, arXiv:1404.5997)."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F


def alexnet() -> nn.Module:
    """torchvision's layout (the one-tower form of 2014): 2,469,696 parameters, no normalisation."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, 64, 11, stride=4, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(3, 2),
            conv2=nn.Conv2d(64, 192, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, 2),
            conv3=nn.Conv2d(192, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 256, 3, padding=1),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(256, 256, 3, padding=1),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, 2),
        )
    )


def alexnet_bn() -> nn.Module:
    """The batch-normalised five-convolution form of the published method: 3,747,392 parameters.

    Keras' ``padding="same"`` throughout, batch normalisation after the first activation, and a
    last pooling of 2 by 2.
    """
    return nn.Sequential(
        OrderedDict(
            conv1=SameConv2d(3, 96, 11, stride=4),
            relu1=nn.ReLU(),
            bn1=nn.BatchNorm2d(96, eps=1e-3, momentum=0.01),
            pool1=nn.MaxPool2d(3, 2),
            conv2=SameConv2d(96, 256, 5),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(3, 2),
            conv3=SameConv2d(256, 384, 3),
            relu3=nn.ReLU(),
            conv4=SameConv2d(384, 384, 3),
            relu4=nn.ReLU(),
            conv5=SameConv2d(384, 256, 3),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(2, 2),
        )
    )


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's ``SAME``: output side = ceil(input side / stride).

    The padding depends on the input's size and its odd pixel goes to the right and the bottom,
    so that no fixed ``padding=`` of PyTorch can express it.
    """

    def forward(self, x: Tensor) -> Tensor:
        reach = [d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        top, bottom = same_padding(x.shape[2], reach[0], self.stride[0])
        left, right = same_padding(x.shape[3], reach[1], self.stride[1])
        return super().forward(F.pad(x, (left, right, top, bottom)))


def same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after one side, as TensorFlow's ``SAME`` adds them."""
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2
