# SPDX-License-Identifier: MIT
"""LayerNorm and RMSNorm of Lamina for PyTorch: modules and functions that replace torch.nn's.

    norm = FusedLayerNorm(768).cuda()                # same constructor and state_dict as torch.nn.LayerNorm; or FusedRMSNorm
    y = norm(x)
    sum, y = norm.add_and_norm(residual, x, p=0.1)   # sum = residual + dropout(x); y = norm(sum)

Gradients of any subset of the inputs, any leading dimensions, f32, f16 and bf16; statistics are f32. The
operators are registered with torch.library, so torch.compile(fullgraph=True) keeps them whole, and they
run on PyTorch's current stream without waiting, so that CUDA graphs can be captured.

y has the dtype of x. Under torch.autocast an f32 x gives y in autocast's dtype, rounded once from f32: what
the linear layer after it would convert it to anyway (torch.nn.LayerNorm returns f32 there). The residual
stream may be f32 while x, and then y, have 16 bits. weight and bias have the dtype of y or f32.

CPU tensors are refused; there is no fallback. A second derivative is not implemented.
"""

from typing import Optional, Tuple

import torch
from torch import Tensor

import lamina_kernels as lamina

_CODES = {torch.float32: lamina.F32, torch.float16: lamina.F16, torch.bfloat16: lamina.BF16}


# Operators, on [rows, cols] tensors whose rows are contiguous. An output that is not wanted is [0].


def _matrix(tensor: Optional[Tensor]):
    if tensor is None:
        return lamina.Matrix()
    # The stride of a single row means nothing, and may be anything.
    stride = max(tensor.stride(0), tensor.size(1)) if tensor.size(0) <= 1 else tensor.stride(0)
    return lamina.Matrix(tensor.data_ptr(), stride, _CODES[tensor.dtype])


def _vector(tensor: Optional[Tensor]):
    return lamina.Vector() if tensor is None else lamina.Vector(tensor.data_ptr(), _CODES[tensor.dtype])


def _seed(key: Optional[Tensor]):
    seed, offset = (0, 0) if key is None else key.tolist()
    return {"seed": seed, "offset": offset}


def _place(tensor: Tensor):
    """Device index and address of the current stream."""
    return tensor.device.index, torch.cuda.current_stream(tensor.device).cuda_stream


def _queue_with_workspace(name: str, args, on: Tensor):
    device, stream = _place(on)
    args.workspace_bytes = lamina.workspace_bytes(name, args, device)
    # Given back at once: whoever gets the memory next on this stream comes after the kernel.
    workspace = on.new_empty(args.workspace_bytes, dtype=torch.uint8)
    args.workspace = workspace.data_ptr()
    lamina.call(name, args, device, stream)


def _dense(tensor: Tensor):
    """The tensor if its rows are contiguous and do not overlap, else a copy."""
    rows, cols = tensor.shape
    fits = (cols <= 1 or tensor.stride(1) == 1) and (rows <= 1 or tensor.stride(0) >= cols)
    return tensor if fits else tensor.contiguous()


def _statistic(x: Tensor):
    return x.new_empty(x.size(0), dtype=torch.float32)


def _forward_outputs(x: Tensor, dtype: torch.dtype):
    """y and rstd."""
    return x.new_empty(x.shape, dtype=dtype), _statistic(x)


def _mean(kind: str, x: Tensor):
    return _statistic(x) if kind == "layer_norm" else x.new_empty(0, dtype=torch.float32)


def _common_args(x, y, weight, bias, mean, rstd, eps):
    return {
        "rows": x.size(0), "cols": x.size(1), "x": _matrix(x), "y": _matrix(y), "weight": _vector(weight),
        "bias": _vector(bias), "mean": mean.data_ptr(), "rstd": rstd.data_ptr(), "eps": eps,
    }


@torch.library.custom_op("lamina::norm", mutates_args=())
def _norm(
    kind: str, x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], eps: float, dtype: torch.dtype
) -> Tuple[Tensor, Tensor, Tensor]:
    """y of `dtype`, mean and rstd. kind: layer_norm, or rms_norm, which has neither bias nor mean."""
    y, rstd = _forward_outputs(x, dtype)
    mean = _mean(kind, x)
    lamina.call(kind, lamina.NormArgs(**_common_args(x, y, weight, bias, mean, rstd, eps)), *_place(x))
    return y, mean, rstd


@_norm.register_fake
def _(kind, x, weight, bias, eps, dtype):
    y, rstd = _forward_outputs(x, dtype)
    return y, _mean(kind, x), rstd


@torch.library.custom_op("lamina::add_norm", mutates_args=())
def _add_norm(
    kind: str, residual: Tensor, x: Tensor, weight: Optional[Tensor], bias: Optional[Tensor], eps: float, p: float,
    key: Optional[Tensor],
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """residual + dropout(x), its norm, mean and rstd. key: [2], int64, on the CPU: which mask."""
    y, rstd = _forward_outputs(x, x.dtype)
    mean = _mean(kind, x)
    total = x.new_empty(x.shape, dtype=residual.dtype)
    args = lamina.NormArgs(
        residual=_matrix(residual), sum=_matrix(total), drop_p=p, **_seed(key),
        **_common_args(x, y, weight, bias, mean, rstd, eps),
    )
    lamina.call(kind, args, *_place(x))
    return total, y, mean, rstd


@_add_norm.register_fake
def _(kind, residual, x, weight, bias, eps, p, key):
    y, rstd = _forward_outputs(x, x.dtype)
    return x.new_empty(x.shape, dtype=residual.dtype), y, _mean(kind, x), rstd


def _backward_outputs(x, dy, dtype, needs_dx, needs_dropped, needs_dweight, needs_dbias):
    def empty(needed, shape, dtype):
        return x.new_empty(shape if needed else (0,), dtype=dtype)

    return (
        empty(needs_dx, x.shape, x.dtype), empty(needs_dropped, x.shape, dy.dtype),
        empty(needs_dweight, x.shape[1:], dtype), empty(needs_dbias, x.shape[1:], dtype),
    )


@torch.library.custom_op("lamina::norm_backward", mutates_args=())
def _norm_backward(
    kind: str, dy: Tensor, dsum: Optional[Tensor], x: Tensor, weight: Optional[Tensor], mean: Tensor, rstd: Tensor,
    p: float, key: Optional[Tensor], dtype: torch.dtype, needs_dx: bool, needs_dropped: bool, needs_dweight: bool,
    needs_dbias: bool,
) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx, dropout'(dx) in the dtype of dy, dweight and dbias in `dtype`. x: what was normalised."""
    outputs = _backward_outputs(x, dy, dtype, needs_dx, needs_dropped, needs_dweight, needs_dbias)
    dx, dropped, dweight, dbias = outputs
    dy, dsum = _dense(dy), None if dsum is None else _dense(dsum)  # gradients may be expanded
    args = lamina.NormBackwardArgs(
        rows=x.size(0), cols=x.size(1), x=_matrix(x), dy=_matrix(dy), dsum=_matrix(dsum), weight=_vector(weight),
        mean=mean.data_ptr(), rstd=rstd.data_ptr(), dx=_matrix(dx if needs_dx else None),
        dx_drop=_matrix(dropped if needs_dropped else None), dweight=_vector(dweight if needs_dweight else None),
        dbias=_vector(dbias if needs_dbias else None), drop_p=p, **_seed(key),
    )
    _queue_with_workspace(f"{kind}_backward", args, x)
    return outputs


@_norm_backward.register_fake
def _(kind, dy, dsum, x, weight, mean, rstd, p, key, dtype, needs_dx, needs_dropped, needs_dweight, needs_dbias):
    return _backward_outputs(x, dy, dtype, needs_dx, needs_dropped, needs_dweight, needs_dbias)


# Gradients. A gradient that did not arrive is None, or zeros under torch.compile.


def _save_norm(ctx, inputs, output):
    ctx.kind, x, weight, bias, _, _ = inputs
    y, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.save_for_backward(x, weight, mean, rstd)
    ctx.dtype = _parameter_dtype(weight, bias)


def _differentiate_norm(ctx, dy, _dmean, _drstd):
    x, weight, mean, rstd = ctx.saved_tensors
    needs_dx, needs_dweight, needs_dbias = ctx.needs_input_grad[1:4]
    dx, _, dweight, dbias = _norm_backward(
        ctx.kind, dy, None, x, weight, mean, rstd, 0.0, None, ctx.dtype, needs_dx, False, needs_dweight, needs_dbias
    )
    return (
        None, dx if needs_dx else None, dweight if needs_dweight else None, dbias if needs_dbias else None, None, None,
    )


def _save_add_norm(ctx, inputs, output):
    ctx.kind, _, x, weight, bias, _, p, key = inputs
    total, y, mean, rstd = output
    ctx.mark_non_differentiable(mean, rstd)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(total, weight, mean, rstd, key)
    ctx.dtype = _parameter_dtype(weight, bias)
    ctx.p, ctx.x_dtype = p, x.dtype


def _differentiate_add_norm(ctx, dsum, dy, _dmean, _drstd):
    total, weight, mean, rstd, key = ctx.saved_tensors
    needs_dresidual, needs_dx, needs_dweight, needs_dbias = ctx.needs_input_grad[1:5]
    if dy is None:  # only the sum was used
        dy = torch.zeros_like(total, dtype=ctx.x_dtype)
    # Without dropout one tensor is the gradient of residual and of x, if they have one dtype.
    is_shared = ctx.p == 0.0 and ctx.x_dtype == total.dtype
    needs_dropped = needs_dx and not is_shared
    needs_dsum = needs_dresidual or (needs_dx and is_shared)
    dsum, dropped, dweight, dbias = _norm_backward(
        ctx.kind, dy, dsum, total, weight, mean, rstd, ctx.p, key, ctx.dtype, needs_dsum, needs_dropped,
        needs_dweight, needs_dbias,
    )
    dx = dsum if is_shared else dropped
    return (
        None, dsum if needs_dresidual else None, dx if needs_dx else None, dweight if needs_dweight else None,
        dbias if needs_dbias else None, None, None, None,
    )


_norm.register_autograd(_differentiate_norm, setup_context=_save_norm)
_add_norm.register_autograd(_differentiate_add_norm, setup_context=_save_add_norm)


def _parameter_dtype(*parameters):
    return next((parameter.dtype for parameter in parameters if parameter is not None), torch.float32)


# Functions.


def _expect_operand(op: str, name: str, tensor: Tensor):
    if tensor.device.type != "cuda":
        raise ValueError(f"{op}: {name} is on {tensor.device}, expected a CUDA device; use torch.nn.functional there")
    if tensor.dtype not in _CODES:
        raise TypeError(f"{op}: {name} has dtype {tensor.dtype}, expected torch.float32, float16 or bfloat16")


def _expect_parameter(op: str, name: str, tensor: Optional[Tensor], shape, on: Tensor, dtype: torch.dtype):
    if tensor is None:
        return
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{op}: {name} has shape {tuple(tensor.shape)}, expected {shape} (normalized_shape)")
    if tensor.device != on.device:
        raise ValueError(f"{op}: {name} is on {tensor.device}, expected {on.device} (the device of x)")
    if tensor.dtype not in (dtype, torch.float32):
        raise TypeError(
            f"{op}: {name} has dtype {tensor.dtype}, expected {dtype} (the dtype of the result) or torch.float32"
        )


def _expect_one_dtype(op: str, weight: Optional[Tensor], bias: Optional[Tensor]):
    if weight is not None and bias is not None and weight.dtype != bias.dtype:
        raise TypeError(f"{op}: bias has dtype {bias.dtype}, expected {weight.dtype} (the dtype of weight)")


def _as_rows(op: str, x: Tensor, normalized_shape) -> Tensor:
    """x as [rows, cols]: a view where its strides allow it."""
    shape = tuple(normalized_shape)
    lead = x.dim() - len(shape)
    if not shape or lead < 0 or tuple(x.shape[lead:]) != shape:
        raise ValueError(f"{op}: x has shape {tuple(x.shape)}, expected [..., *{shape}] (normalized_shape)")
    rows, cols = 1, 1
    for extent in x.shape[:lead]:
        rows = rows * extent
    for extent in shape:
        cols = cols * extent
    return _dense(x.reshape(rows, cols))


def _flat(parameter: Optional[Tensor]) -> Optional[Tensor]:
    return None if parameter is None else parameter.reshape(-1)


def _result_dtype(x: Tensor) -> torch.dtype:
    """That of x, but autocast's for an f32 x under autocast."""
    if x.dtype == torch.float32 and torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return x.dtype


def _as_shape(normalized_shape):
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


def _normalise(op, x, normalized_shape, weight, bias, eps):
    shape = _as_shape(normalized_shape)
    _expect_operand(op, "x", x)
    dtype = _result_dtype(x)
    _expect_parameter(op, "weight", weight, shape, x, dtype)
    _expect_parameter(op, "bias", bias, shape, x, dtype)
    _expect_one_dtype(op, weight, bias)
    y, _, _ = _norm(op, _as_rows(op, x, shape), _flat(weight), _flat(bias), eps, dtype)
    return y.reshape(x.shape)


def _add_and_normalise(kind, residual, x, weight, bias, eps, p, training, normalized_shape):
    op, shape = f"fused_add_{kind}", _as_shape(x.shape[-1:] if normalized_shape is None else normalized_shape)
    _expect_operand(op, "x", x)
    _expect_operand(op, "residual", residual)
    if residual.shape != x.shape:
        raise ValueError(
            f"{op}: residual has shape {tuple(residual.shape)}, expected {tuple(x.shape)} (the shape of x)"
        )
    if residual.device != x.device:
        raise ValueError(f"{op}: residual is on {residual.device}, expected {x.device} (the device of x)")
    if residual.dtype not in (x.dtype, torch.float32):
        raise TypeError(f"{op}: residual has dtype {residual.dtype}, expected {x.dtype} (that of x) or torch.float32")
    if not 0.0 <= p < 1.0:
        raise ValueError(f"{op}: p is {p}, expected a probability in [0, 1)")
    _expect_parameter(op, "weight", weight, shape, x, x.dtype)
    _expect_parameter(op, "bias", bias, shape, x, x.dtype)
    _expect_one_dtype(op, weight, bias)
    p = p if training else 0.0
    key = torch.randint(2**31 - 1, (2,), dtype=torch.int64, device="cpu") if p > 0.0 else None
    total, y, _, _ = _add_norm(
        kind, _as_rows(op, residual, shape), _as_rows(op, x, shape), _flat(weight), _flat(bias), eps, p, key
    )
    return total.reshape(x.shape), y.reshape(x.shape)


def _rms_eps(eps):
    return torch.finfo(torch.float32).eps if eps is None else eps


def layer_norm(x, normalized_shape, weight=None, bias=None, eps=1e-5):
    """torch.nn.functional.layer_norm. x: [..., *normalized_shape]; weight, bias: normalized_shape or None."""
    return _normalise("layer_norm", x, normalized_shape, weight, bias, eps)


def rms_norm(x, normalized_shape, weight=None, eps=None):
    """torch.nn.functional.rms_norm. eps: f32's machine epsilon when it is None, as there (it computes in f32)."""
    return _normalise("rms_norm", x, normalized_shape, weight, None, _rms_eps(eps))


def fused_add_layer_norm(
    residual, x, weight=None, bias=None, eps=1e-5, p=0.0, training=True, normalized_shape=None
):
    """sum = residual + dropout(x, p); returns sum and its layer_norm over the last dimension.

    residual: the shape of x, and its dtype or f32; sum has the dtype of residual, y that of x. The mask
    follows torch.manual_seed (the generator of the CPU) and is never stored. A CUDA graph repeats the mask
    that it was captured with. normalized_shape: where more than the last dimension is normalised.
    """
    return _add_and_normalise("layer_norm", residual, x, weight, bias, eps, p, training, normalized_shape)


def fused_add_rms_norm(residual, x, weight=None, eps=None, p=0.0, training=True, normalized_shape=None):
    """fused_add_layer_norm() with rms_norm; eps as there."""
    return _add_and_normalise("rms_norm", residual, x, weight, None, _rms_eps(eps), p, training, normalized_shape)


# Modules: constructors, parameters and state_dict are torch.nn's.


class FusedLayerNorm(torch.nn.LayerNorm):
    """torch.nn.LayerNorm on Lamina's kernels, with the residual addition before it on request."""

    def forward(self, x):
        return layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def add_and_norm(self, residual, x, p=0.0):
        """residual + dropout(x, p), with dropout in training only, and the norm of that."""
        return fused_add_layer_norm(
            residual, x, self.weight, self.bias, self.eps, p, self.training, self.normalized_shape
        )


class FusedRMSNorm(torch.nn.RMSNorm):
    """torch.nn.RMSNorm on Lamina's kernels, with the residual addition before it on request."""

    def forward(self, x):
        return rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def add_and_norm(self, residual, x, p=0.0):
        """As FusedLayerNorm.add_and_norm()."""
        return fused_add_rms_norm(residual, x, self.weight, self.eps, p, self.training, self.normalized_shape)
