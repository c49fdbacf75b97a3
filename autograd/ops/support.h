// SPDX-License-Identifier: MIT
// What the ops share: checks of several operands, workspaces, and slots of a given dtype. Internal
// to autograd/ops.
#pragma once

#include "autograd/record.h"
#include "core/expect.h"
#include "core/kernels/elementwise.h"
#include "core/launch.h"
#include "core/tensor.h"

#include <string_view>
#include <utility>

namespace lamina::ops {

/// Throws unless the tensor exists and has a float dtype that its device computes in.
void expect_operand(std::string_view op, std::string_view name, const Tensor& tensor);

/// Throws unless the tensor exists and has the device and the dtype of `other`.
void expect_alike(std::string_view op, std::string_view name, const Tensor& tensor,
                  std::string_view other_name, const Tensor& other);

/// Throws unless an optional weight or bias of a normalisation is [cols], on the device of x, of
/// the dtype of x or f32.
void expect_norm_parameter(std::string_view op, std::string_view name, const Tensor& parameter,
                           const Tensor& x);

/// Throws unless the eps of a normalisation is finite and not negative.
void expect_eps(std::string_view op, double eps);

/// The tensor if rows() accepts it, else a contiguous copy.
Tensor row_strided(const Tensor& tensor);

/// The activation function of each element.
Tensor activated(const Tensor& x, kernels::ActivationKind kind);

/// Whether an AllowTf32 lives in this thread.
bool tf32_allowed();

/// Launches on the current stream of `on` with the scratch memory that the kernel asks for. It is
/// given back at once: whoever gets it next on this stream comes after the kernel.
template <class Args>
void launch_with_workspace(const Tensor& on, Args args) {
  const Stream stream = stream_of(on);
  const std::int64_t bytes = workspace_bytes_of(stream, args);
  const Tensor workspace = bytes > 0 ? empty({bytes}, DType::u8, on.device()) : Tensor();
  args.workspace = flat(workspace);
  launch(stream, args);
}

/// A slot for kernels that write `dtype` only. Where the gradient has another one, as that of a
/// 16-bit parameter, the kernel writes to a buffer, which hand_over() adds to the slot.
class TypedSlot {
 public:
  TypedSlot(Grads& grads, int i, DType dtype);

  const Tensor& dst() const { return buffer_ ? buffer_ : slot_.dst; }

  GradWrite write() const { return buffer_ ? GradWrite::overwrite : slot_.write; }

  /// To be called after the launch.
  void hand_over() const;

 private:
  GradSlot slot_;
  Tensor buffer_;
};

}  // namespace lamina::ops
