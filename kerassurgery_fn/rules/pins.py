"""Classes that have no rule on purpose. They pin all channels that they touch; the reason stands beside each class."""

from __future__ import annotations

from kerassurgery_fn.rules.registry import pins

pins("is the base of other operations", "ops.Operation", "ops.SegmentReduction")
pins(
    "runs code of its own, which no config holds",
    "ops.Map", "ops.Scan", "ops.AssociativeScan", "ops.Switch", "ops.WhileLoop", "ops.ForiLoop", "ops.Cond",
    "ops.VectorizedMap", "ops.Function", "ops.JVP",
)  # fmt: skip
pins(
    "decomposes or inverts matrices, so that every position depends on all others",
    "ops.Cholesky", "ops.CholeskyInverse", "ops.Det", "ops.Eig", "ops.Eigh", "ops.Inv", "ops.LuFactor", "ops.Qr",
    "ops.Solve", "ops.SolveTriangular", "ops.SVD", "ops.Lstsq", "ops.MatrixRank", "ops.Pinv", "ops.Logdet",
    "ops.Slogdet", "ops.Corrcoef",
)  # fmt: skip
pins(
    "transforms to or from frequencies, so that every position depends on all others",
    "ops.FFT", "ops.FFT2", "ops.IFFT2", "ops.RFFT", "ops.IRFFT", "ops.STFT", "ops.ISTFT", "ops.ExtractSequences",
    "ops.Correlate", "ops.ViewAsComplex", "ops.ViewAsReal",
)  # fmt: skip
pins(
    "puts positions where indices or coordinates say",
    "ops.Scatter", "ops.ScatterUpdate", "ops.MapCoordinates", "ops.ScaleAndTranslate", "ops.UnravelIndex",
    "ops.SearchSorted", "ops.InTopK", "ops.MultiHot", "ops.Nonzero",
)  # fmt: skip
pins(
    "makes tensors whose size depends on values",
    "ops.Arange", "ops.Linspace", "ops.Logspace", "ops.Geomspace", "ops.Full", "ops.Meshgrid", "ops.Bincount",
    "ops.Histogram", "ops.Unique",
)  # fmt: skip
pins("makes a number of a shape, which a cut would change", "ops.Ndim", "ops.Size")
pins(
    "spreads positions over a matrix or multiplies every one with all others",
    "ops.Diag", "ops.Diagflat", "ops.Kron", "ops.Vander", "ops.Cross",
)  # fmt: skip
pins("reads the bits of numbers in another way", "ops.View")
pins(
    "compares predictions with targets",
    "ops.BinaryCrossentropy", "ops.CategoricalCrossentropy", "ops.SparseCategoricalCrossentropy", "ops.CTCLoss",
    "ops.CTCDecode", "ops.PSNR", "ops.SSIM", "ops.AllClose",
)  # fmt: skip
pins("rounds between limits that are tensors", "ops.FakeQuantWithMinMaxVars")
pins("looks at the order of positions, and Keras on TensorFlow mixes those of other axes as well", "ops.Argpartition")
