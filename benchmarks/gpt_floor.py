# SPDX-License-Identifier: MIT
"""The least time that each part of a GPT-2 training step takes on an H200.

A part's floor is the larger of its FLOPs at the measured peak of matrix products and its bytes at the measured
speed of a copy. Bytes are those that must move when what can be fused is: activations in bf16, each read once
and written once by the part that needs it; the residual addition, biases and GELU belong to matrix products;
scores of attention never leave the chip; logits are read once and written once; gradients are f32.
"""
import dataclasses

from gpt_cases import MEASURED_TFLOPS

COPY_TB_PER_SECOND = 4.3  # read plus written, H200, bf16 in and out
OPTIMIZER_BYTES = 30  # per parameter: f32 weight and moments in and out, f32 gradient in, bf16 weight out


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    flops: float
    bytes: float

    @property
    def ms(self):
        return max(self.flops / MEASURED_TFLOPS, self.bytes / COPY_TB_PER_SECOND) * 1e-9


def parts(case):
    """In the order of the step."""
    layers, width, tokens = case.layers, case.width, case.tokens
    stream = 2 * tokens * width  # bytes of one activation [tokens, width]
    logits = 2 * tokens * case.padded_vocab
    table = case.padded_vocab * width  # elements of the embedding
    every = case.parameters + case.context * width
    causal = 2 * tokens * case.context * width  # FLOPs of attention's two products, half of the square

    def product(name, inputs, outputs, moved, passes=1, weight_bytes=2):
        """`passes` matrix products of a layer; inputs, outputs in units of width, `moved` in units of stream."""
        elements = inputs * outputs * width ** 2
        return Part(name, layers * passes * 2 * tokens * elements,
                    layers * passes * (moved * stream + weight_bytes * elements))

    def head(name, weight_bytes):
        return Part(name, 2 * tokens * table, logits + stream + weight_bytes * table)

    return [
        Part("norms, forward", 0, 2 * layers * 2 * stream),
        product("qkv, forward", 1, 3, 4),
        Part("attention, forward", layers * causal, layers * 4 * stream),
        product("projection and residual, forward", 1, 1, 3),
        product("first of the MLP with GELU, forward", 1, 4, 9),
        product("second of the MLP and residual, forward", 4, 1, 6),
        Part("embedding and last norm, forward", 0, 4 * stream),
        head("head, forward", 2),
        Part("loss and its gradient", 0, 2 * logits),
        head("head, gradient of the input", 2),
        head("head, gradient of the weight", 4),
        product("second of the MLP, gradient of the input with GELU's", 4, 1, 9),
        product("second of the MLP, gradient of the weight", 4, 1, 5, weight_bytes=4),
        product("first of the MLP, gradient of the input", 1, 4, 5),
        product("first of the MLP, gradient of the weight", 1, 4, 5, weight_bytes=4),
        product("projection, both gradients", 1, 1, 2, passes=2, weight_bytes=3),
        Part("attention, backward", layers * 2.5 * causal, layers * 8 * stream),
        product("qkv, both gradients", 1, 3, 4, passes=2, weight_bytes=3),
        Part("norms, backward", 0, 2 * layers * 4 * stream),
        Part("embedding and last norm, backward", 0, 5 * stream),
        Part("gradient norm", 0, 4 * every),
        Part("AdamW", 0, OPTIMIZER_BYTES * every),
    ]
