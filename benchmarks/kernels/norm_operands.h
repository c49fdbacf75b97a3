// SPDX-License-Identifier: MIT
// Operands for timing LayerNorm and RMSNorm: a case says what is done on which shape and dtypes, a
// pool of device memory holds as many independent sets of its operands as the timer wants.
#pragma once

#include "core/kernels/layer_norm.h"
#include "core/tensor.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace lamina::bench {

/// All with weight, bias and statistics, and gradients that overwrite.
enum class NormOp : std::uint8_t {
  forward,
  add_forward,          // with the residual stream
  dropout_add_forward,  // the same, a tenth of x dropped
  backward,
  add_backward,         // with the gradient of the residual stream
  backward_column_sum,  // the same, and the column sum of dx: what training a GPT uses
  rms_forward,
  rms_backward,
  rms_add_forward,
  rms_add_backward,
  forward_backward,  // forward, then backward
};

inline constexpr NormOp kNormOps[] = {
    NormOp::forward,          NormOp::add_forward,     NormOp::dropout_add_forward,
    NormOp::backward,         NormOp::add_backward,    NormOp::backward_column_sum,
    NormOp::rms_forward,      NormOp::rms_backward,    NormOp::rms_add_forward,
    NormOp::rms_add_backward, NormOp::forward_backward};

std::string_view name_of(NormOp op);

/// Throws Error when no op has that name; `program` begins the message.
NormOp norm_op(std::string_view name, std::string_view program);

struct NormCase {
  NormOp op = NormOp::forward;
  std::int64_t rows = 0, cols = 0;
  DType element = DType::bf16;  // of y and dy, and of x with a residual
  DType stream = DType::bf16;   // of the residual stream; element or wider
  DType weight = DType::bf16;   // of weight and bias and their gradients
};

using NormCall = std::variant<kernels::LayerNorm, kernels::LayerNormBackward>;

/// The calls that one run of a case makes, in order, on operands of their own.
using NormSet = std::vector<NormCall>;

/// Queues the calls of a set.
void run(const NormSet& set, CudaStream stream);

/// The fewest bytes that a set moves: the cost() of its calls.
std::int64_t bytes_of(const NormSet& set);

/// The workspace that a call wants: its contract's, or that of a certain policy.
using WorkspaceBytes = std::function<std::int64_t(const NormCall&)>;
WorkspaceBytes contract_workspace(CudaStream stream);

/// Device memory for sets of operands, grown when a case needs more. Inputs are random and never
/// written: the bits of standard normals in bf16. As f32 they are the same numbers with more
/// mantissa, as f16 they are finite, most of magnitude 1 to 2.5.
class OperandPool {
 public:
  explicit OperandPool(CudaStream stream) : stream_(stream) {}

  /// Independent sets; they hold until the next call of sets() or blocks(). Throws OutOfMemory.
  std::vector<NormSet> sets(const NormCase& norm, int count, const WorkspaceBytes& workspace);

  /// The blocks of inputs and of outputs, of at least `bytes` each.
  struct Blocks {
    void* inputs;
    void* outputs;
  };

  Blocks blocks(std::int64_t bytes);

 private:
  void reserve(std::int64_t input_bytes, std::int64_t output_bytes);
  void fill_inputs();

  CudaStream stream_;
  Tensor inputs_, outputs_;  // u8
};

/// Bytes that a case moves, without making its operands.
std::int64_t bytes_of(const NormCase& norm);

}  // namespace lamina::bench
