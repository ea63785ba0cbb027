"""Results that the paper (arXiv 2011.14660) and its result list print, for comparison with what is counted."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """Figures of S branches together: parameters (M), multiply-adds (G), error (%); None = not printed."""

    dataset: str
    model: str
    splits: int
    mparams: float | None
    gmacs: float | None
    error: float | None
    epochs: int = 300
    image_size: int = 32


def _cifar100(model: str, *rows: tuple[int, float, float, float], epochs: int = 300) -> list[Row]:
    """Return CIFAR-100 rows from (S, M parameters, G multiply-adds, error in % after `epochs` epochs)."""
    return [Row("cifar100", model, splits, m, g, error, epochs) for splits, m, g, error in rows]


def _cifar10(model: str, *rows: tuple) -> list[Row]:
    """Return a row for each error in (S, M parameters, G multiply-adds, error after 300 epochs, error after 1800).

    An error of None has no row.
    """
    return [
        Row("cifar10", model, splits, m, g, error, epochs)
        for splits, m, g, *errors in rows
        for epochs, error in zip((300, 1800), errors, strict=True)
        if error is not None
    ]


def _imagenet(model: str, *rows: tuple[int, float, int], size: tuple = (None, None), epochs: int = 120) -> list[Row]:
    """Return rows from (S, top-1 accuracy in %, crop); their error is 100 - accuracy.

    `size` = (M parameters, G multiply-adds), which the paper prints for the whole network only.
    """
    return [
        Row("imagenet2012", model, splits, *(size if splits == 1 else (None, None)), round(100 - top1, 2), epochs, crop)
        for splits, top1, crop in rows
    ]


ROWS = [
    *_cifar100("resnet_110", (1, 1.17, 0.17, 18.96), (2, 1.33, 0.20, 18.32), (4, 1.21, 0.18, 19.56)),
    *_cifar100("resnet_164", (1, 1.73, 0.25, 18.38), (2, 1.96, 0.29, 17.12), (4, 1.78, 0.26, 18.05)),
    *_cifar100("se_resnet_110", (1, 1.69, 0.17, 17.91), (2, 1.89, 0.20, 17.37), (4, 1.70, 0.18, 18.33)),
    *_cifar100("se_resnet_164", (1, 2.51, 0.26, 17.37), (2, 2.81, 0.29, 16.31), (4, 2.53, 0.27, 17.21)),
    *_cifar100("efficientnet_b0", (1, 4.13, 0.23, 18.50), (2, 4.28, 0.24, 18.20), (4, 4.52, 0.30, 17.85)),
    *_cifar100("efficientnet_b3", (1, 10.9, 0.60, 18.10), (2, 11.1, 0.60, 17.00), (4, 11.7, 0.65, 16.62)),
    *_cifar100("wrn_16_8", (1, 11.0, 1.55, 18.69), (2, 12.4, 1.75, 17.37), (4, 11.1, 1.58, 17.07)),
    *_cifar100("resnext_29_8x64d", (1, 34.5, 5.41, 16.43), (2, 35.4, 5.50, 14.99), (4, 36.9, 5.67, 14.88)),
    *_cifar100("wrn_28_10", (1, 36.5, 5.25, 15.50), (2, 35.8, 5.16, 14.48), (4, 36.7, 5.28, 14.26)),
    *_cifar100("wrn_40_10", (1, 55.9, 8.08, 15.56), (2, 54.8, 7.94, 14.28), (4, 56.0, 8.12, 13.96)),
    *_cifar100("wrn_40_10", (1, 55.9, 8.08, 16.02), (2, 54.8, 7.94, 14.09), (4, 56.0, 8.12, 13.10), epochs=1800),
    *_cifar100("densenet_190_k40", (1, 25.8, 9.39, 14.10), (2, 25.5, 9.24, 12.64), (4, 26.3, 9.48, 12.56), epochs=1800),
    *_cifar100(
        "pyramidnet_272_a200", (1, 26.8, 4.55, 11.02), (2, 28.9, 5.24, 10.75), (4, 32.8, 6.33, 10.54), epochs=1800
    ),
    *_cifar10("se_resnet_164", (1, 2.49, 0.26, 2.98, 2.19), (2, 2.81, 0.29, 2.84, 2.20)),
    *_cifar10("resnext_29_8x64d", (1, 34.4, 5.40, 2.69, 2.23), (2, 35.1, 5.49, 2.12, 1.94)),
    *_cifar10("wrn_28_10", (1, 36.5, 5.25, 2.28, 2.41), (2, 35.8, 5.16, 2.06, 1.81), (4, 36.5, 5.28, 2.01, 1.68)),
    *_cifar10("wrn_40_10", (1, 55.8, 8.08, 2.33, 2.19), (4, 55.9, 8.12, 2.01, 1.62)),
    *_cifar10("shake_26_2x96d", (1, 26.2, 3.78, None, 2.00), (2, 23.3, 3.38, None, 1.75), (4, 26.3, 3.82, None, 1.69)),
    *_cifar10("pyramidnet_272_a200", (1, 26.2, 4.55, None, 1.33), (4, 32.6, 6.33, None, 1.29)),
    *_imagenet("resnet_50", (1, 78.84, 224), size=(25.7, 5.5)),
    *_imagenet("resnet_101", (1, 80.16, 224), size=(44.8, 9.2)),
    *_imagenet("se_resnet_50", (1, 79.47, 224), size=(28.2, 4.9)),
    *_imagenet("wrn_50_2", (1, 80.66, 224), (2, 79.64, 224), size=(68.9, 12.8)),
    *_imagenet("wrn_50_3", (1, 80.74, 224), (2, 81.42, 224), size=(135.0, 23.8)),
    *_imagenet("resnext_101_64x4d", (1, 81.57, 224), (2, 82.13, 224), size=(83.6, 16.9)),
    *_imagenet("resnexst_50_4x16d", (1, 79.85, 224), size=(17.8, 4.3)),
    *_imagenet("resnexst_50_8x16d", (1, 80.90, 224), size=(30.5, 6.8)),
    *_imagenet("resnexst_50_4x32d", (1, 81.10, 224), size=(37.1, 8.3)),
    *_imagenet("efficientnet_b7", (1, 81.83, 320), (2, 82.74, 320), (4, 82.75, 320), size=(66.7, 10.6)),
    *_imagenet("se_resnext_101_64x4d", (2, 83.34, 416)),
    *_imagenet("se_resnext_101_64x4d_b", (2, 83.60, 320), epochs=350),
]


def rows(dataset: str, model: str) -> list[Row]:
    """Return all rows of a model on a data set."""
    return [row for row in ROWS if (row.dataset, row.model) == (dataset, model)]


def find(dataset: str, model: str, splits: int) -> Row | None:
    """Return the row of a model in S branches with the shortest training, or None."""
    return next((row for row in rows(dataset, model) if row.splits == splits), None)
