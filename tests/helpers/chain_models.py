"""Chains of layers with the layer in question in the middle, by name: cut exactly, cut inexactly, or pinned."""

import keras
from keras import layers as L

from helpers.small_models import chain, sequential

EXACT = {
    "dense": lambda: chain((6,), L.Dense(7, activation="relu"), L.Dense(8, use_bias=False), L.Dense(3), head=False),
    "dense on a sequence": lambda: chain((5, 6), L.Dense(7, activation="tanh"), L.Dense(4), L.Dense(3), head=False),
    "sequential": lambda: sequential((6,), L.Dense(7, activation="relu"), L.Dense(8), L.Dense(3)),
    "conv1d": lambda: chain((12, 3), L.Conv1D(6, 3, activation="relu"), L.Conv1D(7, 3, strides=2)),
    "conv1d same": lambda: chain((12, 3), L.Conv1D(6, 3, strides=2, padding="same"), L.Conv1D(7, 3, padding="same")),
    "conv1d causal": lambda: chain(
        (12, 3), L.Conv1D(6, 3, padding="causal", dilation_rate=2), L.Conv1D(7, 2, strides=2, padding="causal")
    ),
    "conv1d any length": lambda: chain(
        (None, 3), L.Conv1D(6, 3), L.Conv1D(7, 3), L.GlobalMaxPooling1D(), L.Dense(3), head=False
    ),
    "conv2d": lambda: chain((9, 9, 3), L.Conv2D(6, 3, activation="relu"), L.Conv2D(7, (1, 3), use_bias=False)),
    "conv2d strides": lambda: chain(
        (9, 9, 3), L.Conv2D(6, 3, strides=(2, 1), padding="same"), L.Conv2D(7, 2, strides=2)
    ),
    "conv2d dilation": lambda: chain((9, 9, 3), L.Conv2D(6, 3, dilation_rate=2), L.Conv2D(7, 3, dilation_rate=(1, 2))),
    "conv2d any size": lambda: chain(
        (None, None, 3), L.Conv2D(6, 3), L.Conv2D(7, 3), L.GlobalAveragePooling2D(), L.Dense(3), head=False
    ),
    "conv3d": lambda: chain((5, 6, 5, 2), L.Conv3D(6, 3), L.Conv3D(7, 2, strides=(1, 2, 1), padding="same")),
    "conv2d in 2 groups": lambda: chain((7, 7, 3), L.Conv2D(8, 3), L.Conv2D(12, 3, groups=2), L.Conv2D(5, 1)),
    "conv2d in 3 groups": lambda: chain((7, 7, 3), L.Conv2D(9, 3), L.Conv2D(6, 3, groups=3), L.Conv2D(5, 1)),
    "conv1d in groups after groups": lambda: chain(
        (9, 3), L.Conv1D(12, 3), L.Conv1D(12, 3, groups=3), L.ReLU(), L.Conv1D(18, 3, groups=3), L.Conv1D(4, 1)
    ),
    "conv2d in 2 groups after 4": lambda: chain(
        (7, 7, 3), L.Conv2D(16, 3), L.Conv2D(16, 3, groups=4), L.Conv2D(8, 1, groups=2), L.Conv2D(4, 1)
    ),
    "conv1d over all rows": lambda: chain((9, 3), L.Dense(6), L.Permute((2, 1)), L.Conv1D(5, 6, strides=2)),
    "conv2d over all of one axis": lambda: chain((9, 3), L.Dense(6), L.Reshape((9, 6, 1)), L.Conv2D(5, (2, 6))),
    "depthwise conv2d over all of one axis": lambda: chain(
        (9, 3), L.Dense(6), L.Reshape((9, 6, 1)), L.DepthwiseConv2D((2, 6), strides=3, depth_multiplier=5)
    ),
    "separable conv2d over all of one axis": lambda: chain(
        (9, 3), L.Dense(6), L.Reshape((9, 6, 1)), L.SeparableConv2D(5, (2, 6), strides=3)
    ),
    "conv3d in groups": lambda: chain((5, 5, 5, 2), L.Conv3D(8, 2), L.Conv3D(8, 2, groups=4), L.Conv3D(4, 1)),
    "conv1d transpose": lambda: chain(
        (5, 3), L.Conv1DTranspose(6, 3, strides=2), L.Conv1DTranspose(7, 3, strides=2, padding="same")
    ),
    "conv2d transpose": lambda: chain(
        (5, 5, 3), L.Conv2DTranspose(6, 3, strides=2, padding="same"), L.Conv2DTranspose(7, 2, strides=(3, 1))
    ),
    "conv2d transpose output_padding": lambda: chain(
        (4, 4, 3),
        L.Conv2DTranspose(6, 3, strides=2, padding="same", output_padding=1),
        L.Conv2DTranspose(7, 3, strides=2, padding="same", output_padding=(0, 1)),
        L.Conv2DTranspose(4, 3, strides=2, output_padding=0),
    ),
    "conv2d transpose dilation": lambda: chain((4, 4, 3), L.Conv2DTranspose(6, 3, dilation_rate=2), L.Conv2D(4, 1)),
    "conv3d transpose": lambda: chain((3, 3, 3, 2), L.Conv3DTranspose(6, 2, strides=2), L.Conv3DTranspose(5, 2)),
    "depthwise conv1d": lambda: chain((9, 3), L.Conv1D(6, 3), L.DepthwiseConv1D(3), L.Conv1D(4, 1)),
    "depthwise conv1d times 3": lambda: chain(
        (9, 3), L.Conv1D(6, 3), L.DepthwiseConv1D(3, depth_multiplier=3, activation="relu"), L.Conv1D(4, 1)
    ),
    "depthwise conv2d": lambda: chain(
        (9, 9, 3), L.Conv2D(6, 3), L.DepthwiseConv2D(3, strides=2, padding="same", use_bias=False), L.Conv2D(4, 1)
    ),
    "depthwise conv2d times 3": lambda: chain(
        (7, 7, 3), L.Conv2D(6, 3), L.DepthwiseConv2D(3, depth_multiplier=3), L.BatchNormalization(), L.Conv2D(4, 1)
    ),
    "separable conv1d": lambda: chain((9, 3), L.SeparableConv1D(6, 3), L.SeparableConv1D(7, 3, depth_multiplier=2)),
    "separable conv2d": lambda: chain(
        (7, 7, 3), L.SeparableConv2D(6, 3, padding="same"), L.SeparableConv2D(7, 3, depth_multiplier=3, use_bias=False)
    ),
    "batch normalization": lambda: chain((7, 7, 3), L.Conv2D(6, 3), L.BatchNormalization(), L.ReLU(), L.Conv2D(4, 1)),
    "batch normalization without scale": lambda: chain(
        (6,), L.Dense(8), L.BatchNormalization(scale=False), L.Dense(7), L.BatchNormalization(center=False)
    ),
    "batch normalization without both": lambda: chain(
        (6,), L.Dense(8), L.BatchNormalization(scale=False, center=False), L.Dense(7)
    ),
    "batch normalization over axis 1": lambda: chain(
        (5, 6), L.Dense(8), L.Permute((2, 1)), L.BatchNormalization(axis=1), L.Permute((2, 1)), L.Dense(4)
    ),
    "max pooling 1d": lambda: chain((9, 3), L.Conv1D(6, 3), L.MaxPooling1D(3, 2), L.Conv1D(4, 1)),
    "max pooling 2d": lambda: chain((9, 9, 3), L.Conv2D(6, 3), L.MaxPooling2D(3, 2, padding="same"), L.Conv2D(4, 1)),
    "max pooling 3d": lambda: chain((6, 6, 6, 2), L.Conv3D(6, 3), L.MaxPooling3D((2, 1, 2)), L.Conv3D(4, 1)),
    "average pooling 1d": lambda: chain((9, 3), L.Conv1D(6, 3), L.AveragePooling1D(2), L.Conv1D(4, 1)),
    "average pooling 2d": lambda: chain(
        (9, 9, 3), L.Conv2D(6, 3), L.AveragePooling2D(2, padding="same"), L.Conv2D(4, 1)
    ),
    "average pooling 3d": lambda: chain((6, 6, 6, 2), L.Conv3D(6, 3), L.AveragePooling3D(2), L.Conv3D(4, 1)),
    "global max pooling 1d": lambda: chain((9, 3), L.Conv1D(6, 3), L.GlobalMaxPooling1D()),
    "global max pooling 2d": lambda: chain((9, 9, 3), L.Conv2D(6, 3), L.GlobalMaxPooling2D(keepdims=True)),
    "global max pooling 3d": lambda: chain((5, 5, 5, 2), L.Conv3D(6, 3), L.GlobalMaxPooling3D()),
    "global average pooling 1d": lambda: chain((9, 3), L.Conv1D(6, 3), L.GlobalAveragePooling1D(keepdims=True)),
    "global average pooling 2d": lambda: chain((9, 9, 3), L.Conv2D(6, 3), L.GlobalAveragePooling2D()),
    "global average pooling 3d": lambda: chain((5, 5, 5, 2), L.Conv3D(6, 3), L.GlobalAveragePooling3D(keepdims=True)),
    "adaptive average pooling 1d": lambda: chain((9, 3), L.Conv1D(6, 3), L.AdaptiveAveragePooling1D(3)),
    "adaptive average pooling 2d": lambda: chain((9, 9, 3), L.Conv2D(6, 3), L.AdaptiveAveragePooling2D((3, 2))),
    "adaptive average pooling 3d": lambda: chain((6, 6, 6, 2), L.Conv3D(6, 3), L.AdaptiveAveragePooling3D(2)),
    "adaptive max pooling 1d": lambda: chain((9, 3), L.Conv1D(6, 3), L.AdaptiveMaxPooling1D(3)),
    "adaptive max pooling 2d": lambda: chain((9, 9, 3), L.Conv2D(6, 3), L.AdaptiveMaxPooling2D((3, 2))),
    "adaptive max pooling 3d": lambda: chain((6, 6, 6, 2), L.Conv3D(6, 3), L.AdaptiveMaxPooling3D((2, 1, 3))),
    "flatten": lambda: chain((5, 6, 3), L.Conv2D(6, 2), L.Flatten(), L.Dense(7, activation="relu")),
    "flatten channels_first": lambda: chain(
        (4, 3), L.Dense(6), L.Permute((2, 1)), L.Flatten(data_format="channels_first"), L.Dense(7)
    ),
    "flatten an unknown size": lambda: chain((None, 3), L.Dense(6), L.Dense(4), L.Flatten(), head=False),
    "reshape that merges": lambda: chain((4, 5, 3), L.Conv2D(6, 2), L.Reshape((3, 24)), L.Dense(4)),
    "reshape that splits": lambda: chain((5, 6), L.Dense(12), L.Reshape((5, 3, 4)), L.Dense(7)),
    "reshape from dense to image": lambda: chain(
        (6,), L.Dense(4 * 4 * 6, activation="relu"), L.Reshape((4, 4, 6)), L.Conv2D(7, 3)
    ),
    "reshape with -1": lambda: chain((4, 5, 3), L.Conv2D(6, 2), L.Reshape((-1, 6)), L.Dense(4), L.Reshape((3, -1))),
    "reshape there and back": lambda: chain(
        (4, 5, 3), L.Conv2D(6, 2), L.Reshape((72,)), L.ReLU(), L.Reshape((3, 4, 6)), L.Conv2D(4, 1)
    ),
    "permute": lambda: chain((4, 5, 3), L.Conv2D(6, 2), L.Permute((3, 1, 2)), L.Flatten(), L.Dense(7)),
    "permute through reshape": lambda: chain(
        (4, 5, 3), L.Conv2D(6, 2), L.Permute((3, 2, 1)), L.Reshape((6, 12)), L.Permute((2, 1)), L.Dense(7)
    ),
    "channel shuffle": lambda: chain(
        (5, 3), L.Conv1D(12, 2), L.Conv1D(12, 1, groups=3), L.Reshape((4, 3, 4)), L.Permute((1, 3, 2)),
        L.Reshape((4, 12)), L.Conv1D(12, 1, groups=4), L.Conv1D(4, 1),
    ),
    "repeat vector": lambda: chain((6,), L.Dense(8, activation="relu"), L.RepeatVector(3), L.Conv1D(4, 2)),
    "prelu": lambda: chain((5, 6), L.Dense(8), L.PReLU(), L.Dense(4)),
    "prelu shared": lambda: chain((5, 5, 3), L.Conv2D(6, 2), L.PReLU(shared_axes=[1, 2]), L.Conv2D(4, 1)),
    "prelu shared over channels": lambda: chain((5, 5, 3), L.Conv2D(6, 2), L.PReLU(shared_axes=[1, 3]), L.Conv2D(4, 1)),
    "softmax over space": lambda: chain((5, 3), L.Conv1D(6, 2), L.Softmax(axis=1), L.Dense(4)),
    "zero padding 1d": lambda: chain((5, 3), L.Conv1D(6, 2), L.ZeroPadding1D((1, 2)), L.Conv1D(4, 2)),
    "zero padding 2d": lambda: chain((5, 5, 3), L.Conv2D(6, 2), L.ZeroPadding2D(((0, 1), (2, 1))), L.Conv2D(4, 2)),
    "zero padding 3d": lambda: chain((4, 4, 4, 2), L.Conv3D(6, 2), L.ZeroPadding3D((1, 0, 2)), L.Conv3D(4, 2)),
    "cropping 1d": lambda: chain((7, 3), L.Conv1D(6, 2), L.Cropping1D((1, 2)), L.Conv1D(4, 2)),
    "cropping 2d": lambda: chain((7, 7, 3), L.Conv2D(6, 2), L.Cropping2D(((0, 1), (2, 1))), L.Conv2D(4, 2)),
    "cropping 3d": lambda: chain((5, 5, 5, 2), L.Conv3D(6, 2), L.Cropping3D((1, 0, 1)), L.Conv3D(4, 2)),
    "up sampling 1d": lambda: chain((5, 3), L.Conv1D(6, 2), L.UpSampling1D(3), L.Conv1D(4, 2)),
    "up sampling 2d": lambda: chain(
        (4, 4, 3), L.Conv2D(6, 2), L.UpSampling2D((2, 3), interpolation="bilinear"), L.Conv2D(4, 2)
    ),
    "up sampling 3d": lambda: chain((4, 4, 4, 2), L.Conv3D(6, 2), L.UpSampling3D(2), L.Conv3D(4, 2)),
    "simple rnn": lambda: chain((5, 4), L.SimpleRNN(6, return_sequences=True), L.SimpleRNN(7, use_bias=False)),
    "gru": lambda: chain((5, 4), L.GRU(6, return_sequences=True), L.GRU(7)),
    "gru reset before": lambda: chain((5, 4), L.GRU(6, reset_after=False, return_sequences=True), L.GRU(7)),
    "gru backwards": lambda: chain(
        (5, 4), L.GRU(6, go_backwards=True, return_sequences=True), L.GRU(7, use_bias=False, go_backwards=True)
    ),
    "lstm": lambda: chain((5, 4), L.LSTM(6, return_sequences=True), L.LSTM(7, recurrent_activation="hard_sigmoid")),
    "lstm without bias": lambda: chain(
        (5, 4), L.LSTM(6, return_sequences=True, use_bias=False), L.LSTM(7, unroll=True)
    ),
    "embedding": lambda: chain((5,), L.Embedding(8, 6), L.Dense(4), dtype="int32"),
    "embedding with mask": lambda: chain((5,), L.Embedding(8, 6, mask_zero=True), L.LSTM(7), dtype="int32"),
    "rescaling": lambda: chain((5, 3), L.Rescaling(2.0, 0.5), L.Conv1D(6, 2), L.Rescaling(0.5), L.Dense(4)),
    "normalization": lambda: chain((5, 3), L.Conv1D(6, 2), L.Normalization(), L.Dense(4)),
    "normalization over all": lambda: chain((5, 3), L.Conv1D(6, 2), L.Normalization(axis=None), L.Dense(4)),
    "normalization over two axes": lambda: chain((5, 3), L.Conv1D(6, 2), L.Normalization(axis=(1, 2)), L.Dense(4)),
    "identity": lambda: chain((5, 3), L.Conv1D(6, 2), L.Identity(), L.Dense(4)),
    "masking of inputs": lambda: chain((5, 3), L.Masking(), L.LSTM(6)),
    "stateful": lambda: keras.Sequential(
        [
            keras.Input(batch_shape=(4, 5, 3)),
            L.LSTM(6, stateful=True, return_sequences=True),
            L.GRU(7, stateful=True, return_sequences=True),
            L.SimpleRNN(5, stateful=True),
            L.Dense(3),
        ]
    ),
    "rescaling by a vector": lambda: chain((5,), L.Dense(3), L.Rescaling([1.0, 2.0, 3.0])),
    "normalization by constants": lambda: chain(
        (5,), L.Dense(2), L.Normalization(mean=[1.0, 2.0], variance=[3.0, 4.0])
    ),
}  # fmt: skip


INEXACT = {
    "softmax": lambda: chain((5, 4), L.Dense(8), L.Softmax()),
    "softmax over two axes": lambda: chain((5, 4), L.Dense(8), L.Softmax(axis=(1, 2))),
    "masking of channels": lambda: chain((5, 4), L.Dense(8), L.Masking(), L.LSTM(6)),
}
