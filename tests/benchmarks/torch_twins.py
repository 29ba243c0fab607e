"""The networks of `networks.py` in PyTorch, written here because torchvision is not always installed.

They have the layers, widths and connections of the papers and of keras.applications, in training mode or not: only
their structure and the sizes of their weights count here.
"""

import torch
from torch import nn


def convolution(
    inputs: int, outputs: int, kernel: int | tuple[int, int], stride: int = 1, groups: int = 1
) -> nn.Module:
    """A convolution without bias that keeps the size of the image, but for the stride, with a normalisation."""
    window = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(n // 2 for n in window)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, window, stride, padding, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


def activated(*arguments: int, **options: int) -> nn.Module:
    return nn.Sequential(convolution(*arguments, **options), nn.ReLU())


class Classifier(nn.Module):
    """Features, the mean over the image, and a dense layer."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features, self.top = features, nn.Linear(width, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.top(self.features(x).mean((2, 3)))


# --- VGG16


def vgg16() -> nn.Module:
    layers: list[nn.Module] = []
    width = 3
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(width, filters, 3, padding=1), nn.ReLU()]
            width = filters
        layers.append(nn.MaxPool2d(2))
    dense = [nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, nn.Flatten(), *dense)


# --- ResNet50


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, projects: bool) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            activated(inputs, width, 1, stride), activated(width, width, 3), convolution(width, 4 * width, 1)
        )
        self.shortcut = convolution(inputs, 4 * width, 1, stride) if projects else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(x) + self.shortcut(x))


def resnet50() -> nn.Module:
    layers, inputs = [activated(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(count):
            layers.append(Bottleneck(inputs, width, stride if i == 0 else 1, i == 0))
            inputs = 4 * width
    return Classifier(nn.Sequential(*layers), inputs)


# --- DenseNet121


class DenseLayer(nn.Module):
    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, 128, 1, bias=False),
            nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 32, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.inner(x)], 1)


def densenet121() -> nn.Module:
    layers, width = [activated(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for stage, count in enumerate((6, 12, 24, 16)):
        for _ in range(count):
            layers.append(DenseLayer(width))
            width += 32
        layers += [nn.BatchNorm2d(width), nn.ReLU()]
        if stage < 3:
            layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
            width //= 2
    return Classifier(nn.Sequential(*layers), width)


# --- InceptionV3


class Branches(nn.Module):
    """Branches on one tensor, whose outputs are joined. A branch may end in two branches itself."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def row(inputs: int, *steps: tuple, stride: int = 1) -> nn.Sequential:
    """Convolutions one after the other, each a number of filters and a kernel size; the stride is that of the last."""
    layers = []
    for i, (filters, kernel) in enumerate(steps):
        layers.append(activated(inputs, filters, kernel, stride if i == len(steps) - 1 else 1))
        inputs = filters
    return nn.Sequential(*layers)


def pooled(inputs: int, filters: int) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(3, 1, 1), activated(inputs, filters, 1))


def inception_v3() -> nn.Module:
    layers = [row(3, (32, 3), stride=2), row(32, (32, 3), (64, 3)), nn.MaxPool2d(3, 2, 1)]
    layers += [row(64, (80, 1), (192, 3)), nn.MaxPool2d(3, 2, 1)]
    width = 192
    for filters in (32, 64, 64):
        double = row(width, (64, 1), (96, 3), (96, 3))
        layers.append(Branches(row(width, (64, 1)), row(width, (48, 1), (64, 5)), double, pooled(width, filters)))
        width = 224 + filters
    double = row(width, (64, 1), (96, 3), (96, 3), stride=2)
    layers.append(Branches(row(width, (384, 3), stride=2), double, nn.MaxPool2d(3, 2, 1)))
    width = 768
    for n in (128, 160, 160, 192):
        seven = row(width, (n, 1), (n, (1, 7)), (192, (7, 1)))
        double = row(width, (n, 1), (n, (7, 1)), (n, (1, 7)), (n, (7, 1)), (192, (1, 7)))
        layers.append(Branches(row(width, (192, 1)), seven, double, pooled(width, 192)))
    seven = row(width, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2)
    layers.append(Branches(row(width, (192, 1), (320, 3), stride=2), seven, nn.MaxPool2d(3, 2, 1)))
    width = 1280
    for _ in range(2):
        split = [Branches(row(384, (384, (1, 3))), row(384, (384, (3, 1)))) for _ in range(2)]
        three = nn.Sequential(row(width, (384, 1)), split[0])
        double = nn.Sequential(row(width, (448, 1), (384, 3)), split[1])
        layers.append(Branches(row(width, (320, 1)), three, double, pooled(width, 192)))
        width = 2048
    return Classifier(nn.Sequential(*layers), width)


# --- EfficientNetB0


class MBConv(nn.Module):
    """A depthwise convolution between two pointwise ones, with squeeze-and-excite."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = nn.Sequential(convolution(inputs, width, 1), nn.SiLU()) if expansion > 1 else nn.Identity()
        self.depthwise = nn.Sequential(convolution(width, width, kernel, stride, groups=width), nn.SiLU())
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, inputs // 4, 1), nn.SiLU(), nn.Conv2d(inputs // 4, width, 1),
            nn.Sigmoid(),
        )  # fmt: skip
        self.project = convolution(width, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.gate(y))
        return x + y if self.adds else y


def efficientnet_b0() -> nn.Module:
    layers, inputs = [nn.Sequential(convolution(3, 32, 3, 2), nn.SiLU())], 32
    stages = (
        (1, 16, 3, 1, 1), (2, 24, 3, 2, 6), (2, 40, 5, 2, 6), (3, 80, 3, 2, 6), (3, 112, 5, 1, 6), (4, 192, 5, 2, 6),
        (1, 320, 3, 1, 6),
    )  # fmt: skip
    for count, outputs, kernel, stride, expansion in stages:
        for i in range(count):
            layers.append(MBConv(inputs, outputs, kernel, stride if i == 0 else 1, expansion))
            inputs = outputs
    return Classifier(nn.Sequential(*layers, convolution(inputs, 1280, 1), nn.SiLU()), 1280)


# --- a transformer of 24 layers


class Encoder(nn.Module):
    """A layer of a transformer, its attention written out so that its heads can be followed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.inner = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        parts = [one(y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for one in (self.query, self.key, self.value)]
        y = nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        return x + self.inner(self.second(x))


class Transformer(nn.Module):
    """Patches of an image, encoders, and a dense layer on the mean over the patches."""

    def __init__(self, depth: int = 24, width: int = 384, heads: int = 6) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.encoders = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)))
        self.norm, self.top = nn.LayerNorm(width), nn.Linear(width, 1000)  # the last module is the top of the network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.encoders(self.patches(x).flatten(2).transpose(1, 2))
        return self.top(self.norm(y).mean(1))


# The name in `networks.py` -> its twin.
TWINS = {
    "ResNet50": resnet50, "VGG16": vgg16, "InceptionV3": inception_v3, "DenseNet121": densenet121,
    "EfficientNetB0": efficientnet_b0, "transformer": Transformer,
}  # fmt: skip
