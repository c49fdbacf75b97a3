// SPDX-License-Identifier: MIT
// Contracts: softmax cross-entropy over rows of logits, and its gradient, in place if asked.
// Training takes both from one call that reads the logits once and writes the gradient over them;
// where the logits must stay, the gradient is a call of its own.
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
/// padding columns: the gradient of the loss.
struct CrossEntropy {
  static constexpr std::string_view kName = "cross_entropy";
  Rows logits;           // [rows, cols], in
  Flat targets;          // [rows], i32, in
  std::int64_t classes;  // <= cols
  std::int32_t ignore_index;
  Flat losses;        // [rows], f32 (f64 for f64), out; 0 for ignored rows
  Flat lse;           // [rows], as losses, out
  Flat loss;          // [1], as losses, out
  Flat count;         // [1], as losses, out
  Rows dlogits = {};  // [rows, cols], out; may alias logits; empty: no gradient
  Flat workspace;     // u8, workspace_bytes() long

  Cost cost() const {
    return {.bytes = bytes_of(logits) + bytes_of(dlogits),
            .flops = (dlogits ? 8 : 4) * logits.elements()};
  }
};

/// dlogits *= dloss[0]: the backward pass after a forward pass that wrote dlogits. Nothing but
/// dloss is touched when that is 1, as it is where backward() starts; the cost is that of this
/// case.
struct CrossEntropyScale {
  static constexpr std::string_view kName = "cross_entropy_scale";
  Flat dloss;    // [1], f32 (f64 for f64), in
  Rows dlogits;  // [rows, cols], in and out

  Cost cost() const { return {.bytes = bytes_of(dloss), .flops = 0}; }
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
std::int64_t workspace_bytes(const CrossEntropy& args, CpuStream stream);
std::int64_t workspace_bytes(const CrossEntropy& args, CudaStream stream);
void run(const CrossEntropyScale& args, CpuStream stream);
void run(const CrossEntropyScale& args, CudaStream stream);
void run(const CrossEntropyBackward& args, CpuStream stream);
void run(const CrossEntropyBackward& args, CudaStream stream);

}  // namespace lamina::kernels
