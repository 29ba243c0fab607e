"""Classes that have no rule on purpose. They pin all channels that they read or create, for the given reason."""

from __future__ import annotations

from kerassurgery_fn.rules.registry import pins

pins("is the base class of other operations", "ops.Operation", "ops.SegmentReduction")
pins(
    "calls a Python function, which the config does not describe",
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
    "moves positions by indices or coordinates",
    "ops.Scatter", "ops.ScatterUpdate", "ops.MapCoordinates", "ops.ScaleAndTranslate", "ops.UnravelIndex",
    "ops.SearchSorted", "ops.InTopK", "ops.MultiHot", "ops.Nonzero",
)  # fmt: skip
pins(
    "creates tensors whose size depends on values",
    "ops.Arange", "ops.Linspace", "ops.Logspace", "ops.Geomspace", "ops.Full", "ops.Meshgrid", "ops.Bincount",
    "ops.Histogram", "ops.Unique",
)  # fmt: skip
pins("computes a number from a shape, which a cut would change", "ops.Ndim", "ops.Size")
pins(
    "arranges positions in a matrix or multiplies each position with all others",
    "ops.Diag", "ops.Diagflat", "ops.Kron", "ops.Vander", "ops.Cross",
)  # fmt: skip
pins("reads the bits of numbers in another way", "ops.View")
pins(
    "compares predictions with targets",
    "ops.BinaryCrossentropy", "ops.CategoricalCrossentropy", "ops.SparseCategoricalCrossentropy", "ops.CTCLoss",
    "ops.CTCDecode", "ops.PSNR", "ops.SSIM", "ops.AllClose",
)  # fmt: skip
pins("rounds between limits that are tensors", "ops.FakeQuantWithMinMaxVars")
pins(
    "depends on the order of positions, and Keras on TensorFlow also mixes positions of other axes", "ops.Argpartition"
)
