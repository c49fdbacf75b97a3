// SPDX-License-Identifier: MIT
// linear_cross_entropy: a classifier's last product and its loss, a part of the rows at a time. A
// part's gradients are made while its logits are there.
#include "autograd/ops.h"
#include "autograd/ops/support.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/gemm.h"

#include <algorithm>

namespace lamina {

namespace {

constexpr std::string_view kLinearCrossEntropy = "linear_cross_entropy";

void expect_operands(const Tensor& x, const Tensor& weight, const Tensor& targets,
                     const LinearCrossEntropyOptions& options) {
  ops::expect_operand(kLinearCrossEntropy, "x", x);
  expect_rank(kLinearCrossEntropy, "x", x, 1);
  ops::expect_alike(kLinearCrossEntropy, "weight", weight, "x", x);
  expect_rank(kLinearCrossEntropy, "weight", weight, 2);
  expect_shape(kLinearCrossEntropy, "weight", weight, {weight.dim(0), x.dim(-1)},
               cat("[classes, in], in being the last dimension of x ", x.shape()));
  expect_dtype(kLinearCrossEntropy, "targets", targets, DType::i32, "class numbers");
  expect_shape(kLinearCrossEntropy, "targets", targets, x.shape().sub(0, -1),
               cat("the leading dimensions of x ", x.shape()));
  expect_same_device(kLinearCrossEntropy, "targets", targets, "x", x);
  if (options.classes < 0 || options.classes > weight.dim(0) || weight.dim(0) == 0) {
    throw ShapeError(cat(kLinearCrossEntropy, ": classes is ", options.classes, ", expected 1 to ",
                         weight.dim(0), " (the rows of weight ", weight.shape(),
                         ") or 0 for all of them"));
  }
  if (options.rows < 1) {
    throw Error(cat(kLinearCrossEntropy, ": rows is ", options.rows, ", expected at least 1"));
  }
}

void multiply(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, const Tensor& d,
              GradWrite write = GradWrite::overwrite) {
  kernels::Gemm args{};
  args.a = rows(a);
  args.b = rows(b);
  args.d = rows(d);
  args.transpose_a = transpose_a;
  args.transpose_b = transpose_b;
  args.write = write;
  args.allow_tf32 = ops::tf32_allowed();
  ops::launch_with_workspace(d, args);
}

}  // namespace

Var linear_cross_entropy(const Var& input, const Var& weight, const Tensor& targets,
                         const LinearCrossEntropyOptions& options) {
  expect_operands(input.value(), weight.value(), targets, options);
  const Tensor w = ops::row_strided(weight.value());
  const Tensor ids = targets.contiguous().reshape({targets.elements()});
  const std::int64_t count = ids.elements();
  const Tensor x = input.value().contiguous().reshape({count, w.dim(1)});
  const DType sum_dtype = accumulation_dtype(x.dtype());
  const auto gradient_of = [](const Var& var, const Tensor& value, DType dtype) {
    return will_record({&var}) ? empty(value.shape(), dtype, value.device()) : Tensor();
  };
  const Tensor dx = gradient_of(input, x, x.dtype()), dw = gradient_of(weight, w, sum_dtype);
  if (dw && count == 0) dw.fill(0.0);

  const std::int64_t most = std::min(options.rows, count);
  const Tensor logits = empty({most, w.dim(0)}, x.dtype(), x.device());
  const Tensor losses = empty({count}, sum_dtype, x.device());
  const Tensor lse = empty({most}, sum_dtype, x.device());
  const Tensor loss = empty({}, sum_dtype, x.device()), counted = empty_like(loss);
  for (std::int64_t first = 0; first < count; first += most) {
    const std::int64_t end = std::min(first + most, count);
    const Tensor x_part = x.slice(0, first, end), part = logits.slice(0, 0, end - first);
    multiply(x_part, false, w, true, part);
    launch(stream_of(part),
           kernels::CrossEntropy{.logits = rows(part),
                                 .targets = flat(ids.slice(0, first, end)),
                                 .classes = options.classes == 0 ? w.dim(0) : options.classes,
                                 .ignore_index = options.ignore_index,
                                 .losses = flat(losses.slice(0, first, end)),
                                 .lse = flat(lse.slice(0, 0, end - first)),
                                 .loss = {},
                                 .count = {},
                                 .dlogits = dx || dw ? rows(part) : Rows{}});
    if (dx) multiply(part, false, w, false, dx.slice(0, first, end));
    if (dw) {
      multiply(part, true, x_part, false, dw,
               first == 0 ? GradWrite::overwrite : GradWrite::accumulate);
    }
  }
  launch(stream_of(loss), kernels::CrossEntropyMean{.losses = flat(losses),
                                                    .targets = flat(ids),
                                                    .ignore_index = options.ignore_index,
                                                    .loss = flat(loss),
                                                    .count = flat(counted)});

  return record(
      kLinearCrossEntropy, {input, weight}, {loss},
      [dx, dw, counted, shape = input.shape()](std::span<const Tensor> d, Grads& grads) {
        for (const Tensor& gradient : {dx, dw}) {
          if (!gradient) continue;
          launch(stream_of(gradient),
                 kernels::CrossEntropyScale{
                     .dloss = flat(d[0]), .count = flat(counted), .gradient = rows(gradient)});
        }
        if (dx) grads.give(0, dx.reshape(shape));
        if (dw) grads.give(1, dw);
      })[0];
}

}  // namespace lamina
