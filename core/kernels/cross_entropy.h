// SPDX-License-Identifier: MIT
// Contracts: softmax cross-entropy over rows of logits, and its gradient, in place if asked.
// Training takes both from one call that reads the logits once and writes the gradient over them;
// where the logits must stay, the gradient is a call of its own. Logits that never exist as a whole
// take a call for each part, and one that makes the mean of their losses.
#pragma once

#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

/// lse[r] = log(sum over c < classes of exp(logits[r, c])); loss[0] = mean of lse[r] - logits[r, t]
/// over the rows whose target t is not ignore_index; count[0] = the number of those rows. Without
/// any such row the loss is 0. Columns from `classes` on are padding and never read as classes. A
/// target that is neither ignore_index nor in [0, classes) gives NaN on CUDA and an Error on the
/// CPU. With dlogits, also
/// dlogits[r, c] = (exp(logits[r, c] - lse[r]) - (c == target)) / count[0]; 0 for ignored rows and
/// padding columns: the gradient of the loss. Without loss and count, for a part of the rows:
/// neither is made, and dlogits are not divided by the count, which only all rows together give.
struct CrossEntropy {
  static constexpr std::string_view kName = "cross_entropy";
  Rows logits;           // [rows, cols], in
  Flat targets;          // [rows], i32, in
  std::int64_t classes;  // <= cols
  std::int32_t ignore_index;
  Flat losses;        // [rows], f32 (f64 for f64), out; 0 for ignored rows
  Flat lse;           // [rows], as losses, out
  Flat loss;          // [1], as losses, out; or empty
  Flat count;         // [1], as losses, out; or empty, together with loss
  Rows dlogits = {};  // [rows, cols], out; may alias logits; empty: no gradient

  Cost cost() const {
    return {.bytes = bytes_of(logits) + bytes_of(dlogits),
            .flops = (dlogits ? 8 : 4) * logits.elements()};
  }
};

/// loss[0] and count[0] of CrossEntropy, from the losses of all its parts.
struct CrossEntropyMean {
  static constexpr std::string_view kName = "cross_entropy_mean";
  Flat losses;   // [rows], f32 or f64, in
  Flat targets;  // [rows], i32, in
  std::int32_t ignore_index;
  Flat loss;   // [1], as losses, out
  Flat count;  // [1], as losses, out

  Cost cost() const {
    return {.bytes = bytes_of(losses) + bytes_of(targets), .flops = losses.size};
  }
};

/// gradient *= dloss[0], or dloss[0] / count[0] (0 where no row counts): the backward pass after a
/// forward pass that made the gradient. Nothing but the factor is touched when that is 1, as dloss
/// is where backward() starts.
struct CrossEntropyScale {
  static constexpr std::string_view kName = "cross_entropy_scale";
  Flat dloss;     // [1], f32 or f64, in
  Flat count;     // [1], as dloss, in; or empty
  Rows gradient;  // [rows, cols], in and out: f64 with dloss in f64, else any other float dtype

  /// Without a count that of a factor of 1.
  Cost cost() const {
    return {.bytes = count ? 2 * bytes_of(gradient) : bytes_of(dloss),
            .flops = count ? gradient.elements() : 0};
  }
};

/// dlogits[r, c] = (exp(logits[r, c] - lse[r]) - (c == target)) * dloss[0] / count[0]; 0 for
/// ignored rows and padding columns. Or += that.
struct CrossEntropyBackward {
  static constexpr std::string_view kName = "cross_entropy_backward";
  Rows logits;   // [rows, cols], in
  Flat targets;  // [rows], i32, in
  std::int64_t classes;
  std::int32_t ignore_index;
  Flat lse;      // [rows], f32 (f64 for f64), in
  Flat count;    // [1], as lse, in
  Flat dloss;    // [1], as lse, in
  Rows dlogits;  // [rows, cols], out; may alias logits
  GradWrite write;

  Cost cost() const {
    return {.bytes = bytes_of(logits) + bytes_of(dlogits), .flops = 4 * logits.elements()};
  }
};

void run(const CrossEntropy& args, CpuStream stream);
void run(const CrossEntropy& args, CudaStream stream);
void run(const CrossEntropyMean& args, CpuStream stream);
void run(const CrossEntropyMean& args, CudaStream stream);
void run(const CrossEntropyScale& args, CpuStream stream);
void run(const CrossEntropyScale& args, CudaStream stream);
void run(const CrossEntropyBackward& args, CpuStream stream);
void run(const CrossEntropyBackward& args, CudaStream stream);

}  // namespace lamina::kernels
