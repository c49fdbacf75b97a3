// SPDX-License-Identifier: MIT
// Views: reshape, slice and split. Their gradients are copies into the gradient of the whole.
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/copy.h"
#include "core/kernels/fill.h"

#include <algorithm>

namespace lamina {
namespace {

int expect_dimension(std::string_view op, const Tensor& x, int dim) {
  const int rank = x.rank();
  if (dim < -rank || dim >= rank) {
    throw ShapeError(cat(op, ": dim is ", dim, ", expected -", rank, " to ", rank - 1,
                         " (x has shape ", x.shape(), ")"));
  }
  return dim < 0 ? dim + rank : dim;
}

void copy_to(const Tensor& to, const Tensor& from, GradWrite write) {
  launch(stream_of(to), kernels::Copy{.from = from.data(),
                                      .to = to.data(),
                                      .shape = from.shape(),
                                      .from_strides = from.strides(),
                                      .to_strides = to.strides(),
                                      .from_dtype = from.dtype(),
                                      .to_dtype = to.dtype(),
                                      .write = write});
}

}  // namespace

Var reshape(const Var& x, const std::vector<std::int64_t>& extents) {
  constexpr std::string_view kOp = "reshape";
  expect_defined(kOp, "x", x.value());
  const Tensor y = x.value().reshape(extents);
  const Shape shape = x.shape();
  const bool same_columns = shape.rank() > 0 && y.rank() > 0 && shape[-1] == y.dim(-1);
  const Var result =
      record(kOp, {x}, {y}, [shape, same_columns](std::span<const Tensor> d, Grads& grads) {
        grads.give(0, d[0].reshape(shape), same_columns ? grads.column_sum(0) : Tensor());
      })[0];
  if (same_columns && x.requires_grad() && x.state()->wants_column_sum) ask_for_column_sum(result);
  return result;
}

Var slice(const Var& x, int dim, std::int64_t begin, std::int64_t end) {
  constexpr std::string_view kOp = "slice";
  expect_defined(kOp, "x", x.value());
  dim = expect_dimension(kOp, x.value(), dim);
  if (begin < 0 || end <= begin || end > x.dim(dim)) {
    throw ShapeError(cat(kOp, ": positions are [", begin, ", ", end,
                         "), expected at least one in [0, ", x.dim(dim), ") (dimension ", dim,
                         " of x ", x.shape(), ")"));
  }
  const Tensor y = x.value().slice(dim, begin, end);
  return record(kOp, {x}, {y}, [dim, begin, end](std::span<const Tensor> d, Grads& grads) {
    const GradSlot dx = grads.slot(0);
    if (dx.write == GradWrite::overwrite) {
      launch(stream_of(dx.dst), kernels::Fill{.y = rows(dx.dst), .value = 0.0});
    }
    copy_to(dx.dst.slice(dim, begin, end), d[0], dx.write);
  })[0];
}

std::vector<Var> split(const Var& x, int parts, int dim) {
  constexpr std::string_view kOp = "split";
  expect_defined(kOp, "x", x.value());
  dim = expect_dimension(kOp, x.value(), dim);
  if (parts < 1 || x.dim(dim) == 0 || x.dim(dim) % parts != 0) {
    throw ShapeError(cat(kOp, ": parts is ", parts, ", expected a divisor of ", x.dim(dim),
                         " (dimension ", dim, " of x ", x.shape(), ")"));
  }
  const std::int64_t extent = x.dim(dim) / parts;
  std::vector<Tensor> outputs;
  for (int i = 0; i < parts; ++i) {
    outputs.push_back(x.value().slice(dim, i * extent, (i + 1) * extent));
  }
  return record(kOp, {x}, outputs, [dim, extent](std::span<const Tensor> d, Grads& grads) {
    const GradSlot dx = grads.slot(0);
    const bool is_partial =
        std::any_of(d.begin(), d.end(), [](const Tensor& part) { return !part; });
    if (is_partial && dx.write == GradWrite::overwrite) {
      launch(stream_of(dx.dst), kernels::Fill{.y = rows(dx.dst), .value = 0.0});
    }
    std::int64_t begin = 0;
    for (const Tensor& part : d) {
      if (part) copy_to(dx.dst.slice(dim, begin, begin + extent), part, dx.write);
      begin += extent;
    }
  });
}

}  // namespace lamina
