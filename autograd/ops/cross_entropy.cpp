// SPDX-License-Identifier: MIT
#include "core/kernels/cross_entropy.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"

#include <utility>

namespace lamina {

namespace {

constexpr std::string_view kCrossEntropy = "cross_entropy";

/// Checked operands, and the results of the forward pass.
struct Operands {
  Tensor logits, ids;
  std::int64_t classes;
  std::int32_t ignore_index;
  Tensor losses, lse;  // [rows]
  Tensor loss, count;  // []

  Operands(const Tensor& input, const Tensor& targets, const CrossEntropyOptions& options);

  kernels::CrossEntropy forward() const {
    return {.logits = rows(logits),
            .targets = flat(ids),
            .classes = classes,
            .ignore_index = ignore_index,
            .losses = flat(losses),
            .lse = flat(lse),
            .loss = flat(loss),
            .count = flat(count)};
  }
};

Operands::Operands(const Tensor& input, const Tensor& targets, const CrossEntropyOptions& options)
    : ignore_index(options.ignore_index) {
  ops::expect_operand(kCrossEntropy, "logits", input);
  expect_rank(kCrossEntropy, "logits", input, 1);
  expect_dtype(kCrossEntropy, "targets", targets, DType::i32, "class numbers");
  expect_shape(kCrossEntropy, "targets", targets, input.shape().sub(0, -1),
               cat("the leading dimensions of logits ", input.shape()));
  expect_same_device(kCrossEntropy, "targets", targets, "logits", input);
  const std::int64_t cols = input.dim(-1);
  classes = options.classes == 0 ? cols : options.classes;
  if (classes < 1 || classes > cols) {
    throw ShapeError(cat(kCrossEntropy, ": classes is ", classes, ", expected 1 to ", cols,
                         " (the last dimension of logits ", input.shape(), ")"));
  }
  logits = ops::row_strided(input);
  ids = targets.contiguous();
  const DType sum_dtype = accumulation_dtype(logits.dtype());
  losses = empty({ids.elements()}, sum_dtype, logits.device());
  lse = empty_like(losses);
  loss = empty({}, sum_dtype, logits.device());
  count = empty_like(loss);
}

/// Whether the forward pass may write the gradient over the logits of a caller that gives them up.
/// Not in f16: probabilities over a count of thousands are below its smallest number, 6e-8, until
/// the scale of the loss has been applied to them, which is known in the backward pass.
bool may_overwrite(const Var& input) {
  return will_record({&input}) && is_sole_owner(input.value()) && input.dtype() != DType::f16;
}

/// The logits stay until the backward pass, which reads them again.
Var keep_logits(const Var& input, const Operands& operands) {
  launch(stream_of(operands.logits), operands.forward());
  return record(kCrossEntropy, {input}, {operands.loss},
                [logits = operands.logits, ids = operands.ids, lse = operands.lse,
                 count = operands.count, classes = operands.classes,
                 ignore_index = operands.ignore_index](std::span<const Tensor> d, Grads& grads) {
                  const auto write_to = [&](const Tensor& dlogits, GradWrite write) {
                    launch(stream_of(logits),
                           kernels::CrossEntropyBackward{.logits = rows(logits),
                                                         .targets = flat(ids),
                                                         .classes = classes,
                                                         .ignore_index = ignore_index,
                                                         .lse = flat(lse),
                                                         .count = flat(count),
                                                         .dloss = flat(d[0]),
                                                         .dlogits = rows(dlogits),
                                                         .write = write});
                  };
                  if (is_sole_owner(logits)) {  // the largest activation: no second of its size
                    write_to(logits, GradWrite::overwrite);
                    return grads.give(0, logits);
                  }
                  const ops::TypedSlot dlogits(grads, 0, logits.dtype());
                  write_to(dlogits.dst(), dlogits.write());
                  dlogits.hand_over();
                })[0];
}

/// The logits become their gradient here; the backward pass hands it on.
Var overwrite_logits(const Var& input, const Operands& operands) {
  kernels::CrossEntropy args = operands.forward();
  args.dlogits = args.logits;
  launch(stream_of(operands.logits), args);
  return record(kCrossEntropy, {input}, {operands.loss},
                [dlogits = operands.logits](std::span<const Tensor> d, Grads& grads) {
                  launch(stream_of(dlogits),
                         kernels::CrossEntropyScale{
                             .dloss = flat(d[0]), .count = {}, .gradient = rows(dlogits)});
                  grads.give(0, dlogits);
                })[0];
}

}  // namespace

Var cross_entropy(const Var& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  return keep_logits(logits, Operands(logits.value(), targets, options));
}

Var cross_entropy(Var&& logits, const Tensor& targets, const CrossEntropyOptions& options) {
  const bool overwrites = may_overwrite(logits);
  const Operands operands(logits.value(), targets, options);
  const Var input = std::move(logits);
  return overwrites ? overwrite_logits(input, operands) : keep_logits(input, operands);
}

}  // namespace lamina
