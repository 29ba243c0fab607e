"""Images of flowers for the examples: the photos of TensorFlow's tutorials, your own photos, or generated drawings.

A folder of photos has one subfolder for each kind of flower.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # silences the log; must be set before the import

import keras
import numpy as np

URL = "https://storage.googleapis.com/download.tensorflow.org/example_images/flower_photos.tgz"
KINDS = ("daisy", "lily", "poppy", "rose", "sunflower")
PETALS = dict(zip(KINDS, (12, 6, 4, 5, 20), strict=True))
COLOURS = dict(
    zip(KINDS, ((240, 240, 240), (235, 150, 190), (215, 50, 30), (190, 20, 80), (245, 195, 30)), strict=True)
)


@dataclass(frozen=True)
class Flowers:
    """Images, float32, shape (n, size, size, 3), from -1 to 1, and labels (indices into `kinds`), shape (n,)."""

    images: np.ndarray
    labels: np.ndarray
    kinds: tuple[str, ...]

    def split(self, seed: int, validation: float = 0.25) -> tuple[Flowers, Flowers]:
        """Flowers for training, and a share for validation."""
        order = np.random.default_rng(seed).permutation(len(self.labels))
        cut = round(len(order) * (1 - validation))
        return tuple(Flowers(self.images[part], self.labels[part], self.kinds) for part in (order[:cut], order[cut:]))  # type: ignore[return-value]


def flowers(size: int, each: int, seed: int, data_dir: Path | None = None, download: bool = False) -> Flowers:
    """Photos from the internet or from a folder, otherwise drawings; at most `each` per kind."""
    if download:
        archive = Path(keras.utils.get_file("flower_photos.tgz", URL, extract=True))
        data_dir = next(folder for folder in [archive, *archive.rglob("flower_photos")] if (folder / "daisy").is_dir())
    return photos(data_dir, size, each, seed) if data_dir else drawings(size, each, seed)


def photos(folder: Path, size: int, each: int, seed: int) -> Flowers:
    """At most `each` random photos per kind, cropped to a square and resized."""
    rng = np.random.default_rng(seed)
    kinds = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    files = [
        (path, label)
        for label, kind in enumerate(kinds)
        for path in rng.permutation(sorted((folder / kind).glob("*.*")))[:each]
    ]
    images = [
        keras.utils.img_to_array(keras.utils.load_img(path, target_size=(size, size), keep_aspect_ratio=True))
        for path, _ in files
    ]
    return Flowers(np.stack(images).astype("float32") / 127.5 - 1, np.array([label for _, label in files]), kinds)


def drawings(size: int, each: int, seed: int) -> Flowers:
    """`each` random drawings per kind: petals around a disc, on a blurred meadow."""
    rng = np.random.default_rng(seed)
    images = [drawing(rng, kind, size) for kind in KINDS for _ in range(each)]
    return Flowers(np.stack(images), np.repeat(np.arange(len(KINDS)), each), KINDS)


def drawing(rng: np.random.Generator, kind: str, size: int) -> np.ndarray:
    """A flower, float32, shape (size, size, 3), from -1 to 1."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    x, y = x + rng.uniform(-0.25, 0.25), y + rng.uniform(-0.25, 0.25)
    radius, angle = np.hypot(x, y), np.arctan2(y, x) + rng.uniform(0, 2 * np.pi)
    reach = rng.uniform(0.55, 0.9) * (0.55 + 0.45 * np.abs(np.cos(PETALS[kind] * angle / 2)))
    image = meadow(rng, size)
    for shape, colour in ((radius < reach, COLOURS[kind]), (radius < 0.22 * reach.max(), (90, 60, 25))):
        shade = rng.normal(np.array(colour), 18) * (1 - 0.35 * radius[..., None])
        image = np.where(shape[..., None], shade, image)
    return (np.clip(image + rng.normal(0, 9, image.shape), 0, 255) / 127.5 - 1).astype("float32")


def meadow(rng: np.random.Generator, size: int) -> np.ndarray:
    """A green background with large soft spots, float64, shape (size, size, 3), 0 to 255."""
    spots = rng.normal((70, 120, 60), 35, (6, 6, 3)).repeat(-(-size // 6), 0).repeat(-(-size // 6), 1)[:size, :size]
    return (spots + np.roll(spots, size // 12, 0) + np.roll(spots, size // 12, 1)) / 3
