// SPDX-License-Identifier: MIT
#include "core/kernels/cross_entropy.h"

#include "autograd/ops.h"
#include "autograd/ops/support.h"

namespace lamina {

Var cross_entropy(const Var& input, const Tensor& targets, const CrossEntropyOptions& options) {
  constexpr std::string_view kOp = "cross_entropy";
  ops::expect_operand(kOp, "logits", input.value());
  expect_rank(kOp, "logits", input.value(), 1);
  expect_dtype(kOp, "targets", targets, DType::i32, "class numbers");
  expect_shape(kOp, "targets", targets, input.shape().sub(0, -1),
               cat("the leading dimensions of logits ", input.shape()));
  expect_same_device(kOp, "targets", targets, "logits", input.value());
  const std::int64_t cols = input.dim(-1);
  const std::int64_t classes = options.classes == 0 ? cols : options.classes;
  if (classes < 1 || classes > cols) {
    throw ShapeError(cat(kOp, ": classes is ", classes, ", expected 1 to ", cols,
                         " (the last dimension of logits ", input.shape(), ")"));
  }
  const std::int32_t ignore_index = options.ignore_index;
  const Tensor logits = ops::row_strided(input.value()), ids = targets.contiguous();
  const DType sum_dtype = accumulation_dtype(logits.dtype());
  const Tensor losses = empty({ids.elements()}, sum_dtype, logits.device());
  const Tensor lse = empty_like(losses);
  const Tensor loss = empty({}, sum_dtype, logits.device()), count = empty_like(loss);
  ops::launch_with_workspace(logits, kernels::CrossEntropy{.logits = rows(logits),
                                                           .targets = flat(ids),
                                                           .classes = classes,
                                                           .ignore_index = ignore_index,
                                                           .losses = flat(losses),
                                                           .lse = flat(lse),
                                                           .loss = flat(loss),
                                                           .count = flat(count),
                                                           .workspace = {}});

  return record(
      kOp, {input}, {loss},
      [logits, ids, lse, count, classes, ignore_index](std::span<const Tensor> d, Grads& grads) {
        const auto write_to = [&](const Tensor& dlogits, GradWrite write) {
          launch(stream_of(logits), kernels::CrossEntropyBackward{.logits = rows(logits),
                                                                  .targets = flat(ids),
                                                                  .classes = classes,
                                                                  .ignore_index = ignore_index,
                                                                  .lse = flat(lse),
                                                                  .count = flat(count),
                                                                  .dloss = flat(d[0]),
                                                                  .dlogits = rows(dlogits),
                                                                  .write = write});
        };
        if (is_sole_owner(logits)) {  // the largest activation: no second one of its size
          write_to(logits, GradWrite::overwrite);
          return grads.give(0, logits);
        }
        const ops::TypedSlot dlogits(grads, 0, logits.dtype());
        write_to(dlogits.dst(), dlogits.write());
        dlogits.hand_over();
      })[0];
}

}  // namespace lamina
