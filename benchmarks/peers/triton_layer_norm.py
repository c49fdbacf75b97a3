# SPDX-License-Identifier: MIT
"""LayerNorm in Triton, written to be as fast as plain Triton gets: a peer for layer_norm.py.

x, dy, y, dx: [rows, cols], contiguous, any float type. weight, bias: [cols]. mean, rstd: [rows], f32.
A program holds whole rows in registers, so cols is at most 65536. Moments are f32 and two-pass.
"""
import torch
import triton
import triton.language as tl

MAX_COLS = 65536
TILE = 2048  # elements of a program that has several short rows
FUSED_BACKWARD_COLS = 8192  # beyond, two f32 accumulators for each element spill


@triton.jit
def _forward_kernel(x, residual, weight, bias, total, y, mean, rstd, rows, cols, eps,
                    ADD: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, COLS)
    inside = (row[:, None] < rows) & (col[None, :] < cols)
    at = row[:, None] * cols + col[None, :]
    value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        value += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
        rounded = value.to(total.dtype.element_ty)
        tl.store(total + at, rounded, mask=inside)
        value = rounded.to(tl.float32)
    center = tl.sum(value, 1) / cols
    deviation = tl.where(inside, value - center[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(deviation * deviation, 1) / cols + eps)
    tl.store(mean + row, center, mask=row < rows)
    tl.store(rstd + row, scale, mask=row < rows)
    gain = tl.load(weight + col, mask=col < cols, other=0.0).to(tl.float32)
    shift = tl.load(bias + col, mask=col < cols, other=0.0).to(tl.float32)
    out = deviation * scale[:, None] * gain[None, :] + shift[None, :]
    tl.store(y + at, out.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(x, dy, weight, mean, rstd, dx, dweight_parts, dbias_parts, rows, cols,
                     PARTS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """dx, and where PARTS the sums of dweight and dbias over this program's rows."""
    col = tl.arange(0, COLS)
    gain = tl.load(weight + col, mask=col < cols, other=0.0).to(tl.float32)[None, :]
    dweight = tl.zeros((ROWS, COLS), tl.float32)
    dbias = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        inside = (row[:, None] < rows) & (col[None, :] < cols)
        at = row[:, None] * cols + col[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
        center = tl.load(mean + row, mask=row < rows, other=0.0)[:, None]
        scale = tl.load(rstd + row, mask=row < rows, other=0.0)[:, None]
        normal = tl.where(inside, (value - center) * scale, 0.0)
        scaled = grad * gain
        along = tl.sum(scaled * normal, 1)[:, None] / cols
        level = tl.sum(scaled, 1)[:, None] / cols
        out = scale * (scaled - level - normal * along)
        tl.store(dx + at, out.to(dx.dtype.element_ty), mask=inside)
        if PARTS:
            dweight += grad * normal
            dbias += grad
    if PARTS:
        part = tl.program_id(0) * cols + col
        tl.store(dweight_parts + part, tl.sum(dweight, 0), mask=col < cols)
        tl.store(dbias_parts + part, tl.sum(dbias, 0), mask=col < cols)


@triton.jit
def _column_parts_kernel(x, dy, mean, rstd, dweight_parts, dbias_parts, rows, cols,
                         ROWS: tl.constexpr, COLS: tl.constexpr):
    """Sums of dweight and dbias over every num_programs(1)-th block of ROWS rows, for COLS columns."""
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    dweight = tl.zeros((ROWS, COLS), tl.float32)
    dbias = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(tl.program_id(1) * ROWS, rows, tl.num_programs(1) * ROWS):
        row = (start + tl.arange(0, ROWS)).to(tl.int64)
        inside = (row[:, None] < rows) & (col[None, :] < cols)
        at = row[:, None] * cols + col[None, :]
        value = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        grad = tl.load(dy + at, mask=inside, other=0.0).to(tl.float32)
        center = tl.load(mean + row, mask=row < rows, other=0.0)[:, None]
        scale = tl.load(rstd + row, mask=row < rows, other=0.0)[:, None]
        dweight += grad * (value - center) * scale
        dbias += grad
    part = tl.program_id(1) * cols + col
    tl.store(dweight_parts + part, tl.sum(dweight, 0), mask=col < cols)
    tl.store(dbias_parts + part, tl.sum(dbias, 0), mask=col < cols)


@triton.jit
def _sum_parts_kernel(dweight_parts, dbias_parts, dweight, dbias, parts, cols,
                      PARTS: tl.constexpr, COLS: tl.constexpr):
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    first = tl.zeros((PARTS, COLS), tl.float32)
    second = tl.zeros((PARTS, COLS), tl.float32)
    for start in range(0, parts, PARTS):
        part = start + tl.arange(0, PARTS)
        inside = (part[:, None] < parts) & (col[None, :] < cols)
        at = part[:, None] * cols + col[None, :]
        first += tl.load(dweight_parts + at, mask=inside, other=0.0)
        second += tl.load(dbias_parts + at, mask=inside, other=0.0)
    tl.store(dweight + col, tl.sum(first, 0).to(dweight.dtype.element_ty), mask=col < cols)
    tl.store(dbias + col, tl.sum(second, 0).to(dbias.dtype.element_ty), mask=col < cols)


def _tile(cols):
    """(rows of a tile, its padded columns, warps): 16 elements a thread, 32 in the longest rows."""
    if cols > MAX_COLS:
        raise ValueError(f"triton: rows have {cols} elements, expected at most {MAX_COLS} "
                         f"(a program holds a whole row)")
    padded = triton.next_power_of_2(cols)
    rows = max(1, TILE // padded)
    return rows, padded, min(max(rows * padded // 512, 4), 32)


def _multiprocessors(x):
    return torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 4


def _statistics(x):
    return (torch.empty(x.shape[0], dtype=torch.float32, device=x.device),
            torch.empty(x.shape[0], dtype=torch.float32, device=x.device))


def forward(x, weight, bias, eps):
    """Returns y, mean, rstd."""
    rows, cols = x.shape
    tile_rows, tile_cols, warps = _tile(cols)
    y, (mean, rstd) = torch.empty_like(x), _statistics(x)
    _forward_kernel[(triton.cdiv(rows, tile_rows),)](
        x, x, weight, bias, y, y, mean, rstd, rows, cols, eps,
        ADD=False, ROWS=tile_rows, COLS=tile_cols, num_warps=warps)
    return y, mean, rstd


def add_forward(x, residual, weight, bias, eps):
    """Returns x + residual, its LayerNorm, mean, rstd."""
    rows, cols = x.shape
    tile_rows, tile_cols, warps = _tile(cols)
    total, y, (mean, rstd) = torch.empty_like(x), torch.empty_like(x), _statistics(x)
    _forward_kernel[(triton.cdiv(rows, tile_rows),)](
        x, residual, weight, bias, total, y, mean, rstd, rows, cols, eps,
        ADD=True, ROWS=tile_rows, COLS=tile_cols, num_warps=warps)
    return total, y, mean, rstd


def backward(dy, x, weight, mean, rstd):
    """Returns dx, dweight, dbias. Sums over rows run in a fixed order."""
    rows, cols = x.shape
    tile_rows, tile_cols, warps = _tile(cols)
    dx, dweight, dbias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(weight)
    fused = cols <= FUSED_BACKWARD_COLS
    if fused:
        # About 128 registers a thread: 16 warps fill a multiprocessor.
        parts = min(triton.cdiv(rows, tile_rows), _multiprocessors(x) * max(1, 16 // warps))
    else:
        parts = min(triton.cdiv(rows, 64), 16)
    sums = torch.empty(2, parts, cols, dtype=torch.float32, device=x.device)
    _backward_kernel[(parts if fused else rows,)](
        x, dy, weight, mean, rstd, dx, sums[0], sums[1], rows, cols,
        PARTS=fused, ROWS=tile_rows, COLS=tile_cols, num_warps=warps)
    if not fused:
        _column_parts_kernel[(triton.cdiv(cols, 128), parts)](
            x, dy, mean, rstd, sums[0], sums[1], rows, cols, ROWS=16, COLS=128, num_warps=4)
    _sum_parts_kernel[(triton.cdiv(cols, 32),)](
        sums[0], sums[1], dweight, dbias, parts, cols, PARTS=64, COLS=32, num_warps=4)
    return dx, dweight, dbias
