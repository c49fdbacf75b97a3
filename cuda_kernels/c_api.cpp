// SPDX-License-Identifier: MIT
// The C functions of lamina_kernels.h: operands are checked and turned into the kernels' contracts,
// exceptions into a status and a text.
#include "core/cuda/runtime.h"
#include "core/device.h"
#include "core/error.h"
#include "core/kernels/layer_norm.h"
#include "core/text.h"
#include "cuda_kernels/lamina_kernels.h"

#include <cuda_runtime_api.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <string_view>

namespace lamina::kernels {
namespace {

static_assert(LAMINA_F32 == static_cast<int>(DType::f32) &&
              LAMINA_F16 == static_cast<int>(DType::f16) &&
              LAMINA_BF16 == static_cast<int>(DType::bf16));

thread_local std::array<char, 1024> last_error{};

int failed(int status, const char* text) noexcept {
  std::snprintf(last_error.data(), last_error.size(), "%s", text);
  return status;
}

/// Runs the body of an exported function; nothing leaves it but a status.
template <class Body>
int guarded(Body&& body) noexcept {
  try {
    body();
    return LAMINA_OK;
  } catch (const DeviceError& error) {
    return failed(LAMINA_NO_DEVICE, error.what());
  } catch (const CudaError& error) {
    cudaGetLastError();  // it has been reported: the next call must not find it
    return failed(LAMINA_CUDA_ERROR, error.what());
  } catch (const Error& error) {
    return failed(LAMINA_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return failed(LAMINA_INTERNAL_ERROR, error.what());
  } catch (...) {
    return failed(LAMINA_INTERNAL_ERROR, "lamina: unknown exception, expected none");
  }
}

/// The struct of a call, if it has the layout of this library.
template <class Args>
const Args& checked(std::string_view op, const Args* args) {
  if (args == nullptr) throw Error(cat(op, ": args is NULL, expected a struct"));
  if (args->size != sizeof(Args)) {
    throw Error(cat(op, ": args.size is ", args->size, ", expected ", sizeof(Args),
                    " (sizeof in the header of version ", lamina_version(),
                    "); set it, or compile with the header of this library"));
  }
  return *args;
}

enum class Direction : std::uint8_t { in, out };

/// Turns the operands of one call into views, and refuses those that do not fit.
class Operands {
 public:
  Operands(std::string_view op, std::int64_t rows, std::int64_t cols)
      : op_(op), rows_(rows), cols_(cols) {
    if (rows < 0 || cols < 0) {
      throw ShapeError(
          cat(op, ": rows is ", rows, " and cols is ", cols, ", expected 0 or more of each"));
    }
  }

  bool has_elements() const { return rows_ > 0 && cols_ > 0; }

  Rows matrix(std::string_view name, const lamina_matrix& from, Direction direction) {
    if (has_elements() && from.data == nullptr) throw Error(cat(op_, ": ", name, " is NULL"));
    return optional_matrix(name, from, direction);
  }

  /// An empty view when it is not given.
  Rows optional_matrix(std::string_view name, const lamina_matrix& from, Direction direction) {
    if (from.data == nullptr)
      return {nullptr, rows_, cols_, cols_, checked_dtype(name, from.dtype)};
    const Rows view{from.data, rows_, cols_, from.stride, checked_dtype(name, from.dtype)};
    if (view.stride < cols_) {
      throw ShapeError(cat(op_, ": ", name, " has a stride of ", view.stride,
                           ", expected at least ", cols_, " (cols)"));
    }
    add({name, view.data, view.stride, view.dtype, direction});
    return view;
  }

  /// [cols], an empty view when it is not given.
  Flat vector(std::string_view name, const lamina_vector& from, Direction direction) {
    const Flat view{from.data, cols_, checked_dtype(name, from.dtype)};
    if (view) add({name, view.data, 0, view.dtype, direction});
    return view;
  }

  /// [size], f32, an empty view when it is not given.
  Flat floats(std::string_view name, const float* data, std::int64_t size, Direction direction) {
    const Flat view{const_cast<float*>(data), size, DType::f32};
    if (view) add({name, view.data, 0, view.dtype, direction});
    return view;
  }

  void expect_dtype(std::string_view name, DType dtype, DType wanted, std::string_view why) const {
    if (dtype != wanted) {
      throw DTypeError(
          cat(op_, ": ", name, " has dtype ", dtype, ", expected ", wanted, " (", why, ")"));
    }
  }

  /// The dtype is `narrow` or f32: that of the residual stream, and of weights.
  void expect_same_or_f32(std::string_view name, DType dtype, DType narrow,
                          std::string_view narrow_name) const {
    if (dtype != narrow && dtype != DType::f32) {
      throw DTypeError(cat(op_, ": ", name, " has dtype ", dtype, ", expected ", narrow,
                           narrow == DType::f32 ? "" : " or f32", " (the dtype of ", narrow_name,
                           narrow == DType::f32 ? ")" : ", or one that is wider)"));
    }
  }

  struct Pair {
    std::string_view output, input;
  };

  /// Refuses an output in the memory of another operand, but for `allowed` ones, which must match.
  void expect_apart(std::initializer_list<Pair> allowed) const {
    for (int i = 0; i < count_; ++i) {
      for (int j = 0; j < i; ++j) {
        if (operands_[i].data != operands_[j].data) continue;
        const bool i_writes = operands_[i].direction == Direction::out;
        if (i_writes || operands_[j].direction == Direction::out) {
          i_writes ? expect_alias(operands_[i], operands_[j], allowed)
                   : expect_alias(operands_[j], operands_[i], allowed);
        }
      }
    }
  }

 private:
  struct Operand {
    std::string_view name;
    const void* data = nullptr;
    std::int64_t stride = 0;
    DType dtype = DType::f32;
    Direction direction = Direction::in;
  };

  DType checked_dtype(std::string_view name, std::int32_t dtype) const {
    if (dtype != LAMINA_F32 && dtype != LAMINA_F16 && dtype != LAMINA_BF16) {
      throw DTypeError(cat(op_, ": ", name, " has the dtype code ", dtype,
                           ", expected LAMINA_F32 (0), LAMINA_F16 (1) or LAMINA_BF16 (2)"));
    }
    return static_cast<DType>(dtype);
  }

  void add(const Operand& operand) {
    const std::size_t bytes = size_of(operand.dtype);
    if (reinterpret_cast<std::uintptr_t>(operand.data) % bytes != 0) {
      throw Error(cat(op_, ": ", operand.name, " is at ", operand.data, ", expected a multiple of ",
                      bytes, " (bytes of an element of ", operand.dtype, ")"));
    }
    operands_[count_++] = operand;
  }

  void expect_alias(const Operand& output, const Operand& other,
                    std::initializer_list<Pair> allowed) const {
    for (const Pair& pair : allowed) {
      if (pair.output != output.name || pair.input != other.name) continue;
      if (output.stride == other.stride && output.dtype == other.dtype) return;
      throw Error(cat(op_, ": ", output.name, " is the memory of ", other.name, " with stride ",
                      output.stride, " and dtype ", output.dtype, ", expected ", other.stride,
                      " and ", other.dtype, " (those of ", other.name, ")"));
    }
    throw Error(cat(op_, ": ", output.name, " is the memory of ", other.name,
                    ", expected its own (it is written while others are read)"));
  }

  std::string_view op_;
  std::int64_t rows_, cols_;
  std::array<Operand, 16> operands_;  // those that are given
  int count_ = 0;
};

void expect_eps(std::string_view op, double eps) {
  if (!(eps >= 0.0) || !std::isfinite(eps)) {
    throw Error(cat(op, ": eps is ", eps, ", expected 0 or a positive number"));
  }
}

void expect_drop_p(std::string_view op, float p) {
  if (!(p >= 0.0F && p < 1.0F)) {
    throw Error(cat(op, ": drop_p is ", p, ", expected a probability in [0, 1)"));
  }
}

/// Of an output that is not given the write does not matter, but must be one.
GradWrite checked_write(std::string_view op, std::string_view name, std::int32_t write) {
  if (write == LAMINA_OVERWRITE) return GradWrite::overwrite;
  if (write == LAMINA_ACCUMULATE) return GradWrite::accumulate;
  throw Error(cat(op, ": ", name, " is ", write,
                  ", expected LAMINA_OVERWRITE (0) or LAMINA_ACCUMULATE (1)"));
}

void expect_statistic(std::string_view op, std::string_view name, const Flat& view,
                      const Operands& operands) {
  if (operands.has_elements() && !view) {
    throw Error(cat(op, ": ", name, " is NULL, expected what the forward pass wrote"));
  }
}

/// For operands of LayerNorm that RMSNorm has not.
void expect_none(std::string_view op,
                 std::initializer_list<std::pair<std::string_view, const void*>> operands) {
  for (const auto& [name, data] : operands) {
    if (data == nullptr) continue;
    throw Error(
        cat(op, ": ", name, " is given, expected NULL (RMSNorm neither centres nor shifts)"));
  }
}

/// A sum over rows has f32 or the dtype of the weight, or of dy where there is no weight.
void expect_sum_dtype(std::string_view name, const Operands& operands, const Flat& sum,
                      const Flat& weight, DType dy) {
  if (!sum) return;
  operands.expect_same_or_f32(name, sum.dtype, weight ? weight.dtype : dy,
                              weight ? "weight" : "dy");
}

LayerNorm contract_of(Norm norm, const lamina_norm_args* pointer) {
  LayerNorm to{};
  to.norm = norm;
  const std::string_view op = to.name();
  const lamina_norm_args& from = checked(op, pointer);
  Operands operands(op, from.rows, from.cols);
  to.x = operands.matrix("x", from.x, Direction::in);
  to.residual = operands.optional_matrix("residual", from.residual, Direction::in);
  to.sum = operands.optional_matrix("sum", from.sum, Direction::out);
  to.y = operands.matrix("y", from.y, Direction::out);
  to.weight = operands.vector("weight", from.weight, Direction::in);
  to.bias = operands.vector("bias", from.bias, Direction::in);
  to.mean = operands.floats("mean", from.mean, from.rows, Direction::out);
  to.rstd = operands.floats("rstd", from.rstd, from.rows, Direction::out);
  to.eps = from.eps;
  to.drop_p = from.drop_p;
  to.key = {from.seed, from.offset};

  expect_eps(op, from.eps);
  expect_drop_p(op, from.drop_p);
  if (norm == Norm::rms) expect_none(op, {{"bias", from.bias.data}, {"mean", from.mean}});
  if (static_cast<bool>(to.sum) != static_cast<bool>(to.residual)) {
    throw Error(cat(op, ": ", to.sum ? "sum" : "residual", " is given without ",
                    to.sum ? "residual" : "sum", ", expected both or neither"));
  }
  if (operands.has_elements() && from.drop_p > 0.0F && !to.residual) {
    throw Error(cat(op, ": drop_p is ", from.drop_p,
                    " without a residual, expected 0 (dropout is of what is added to it)"));
  }
  if (to.residual) {
    operands.expect_dtype("x", to.x.dtype, to.y.dtype, "the dtype of y, as there is a residual");
    operands.expect_same_or_f32("residual", to.residual.dtype, to.y.dtype, "y");
    operands.expect_dtype("sum", to.sum.dtype, to.residual.dtype, "the dtype of residual");
  } else {
    operands.expect_same_or_f32("x", to.x.dtype, to.y.dtype, "y");
  }
  if (to.weight) operands.expect_same_or_f32("weight", to.weight.dtype, to.y.dtype, "y");
  if (to.bias) operands.expect_same_or_f32("bias", to.bias.dtype, to.y.dtype, "y");
  if (to.weight && to.bias)
    operands.expect_dtype("bias", to.bias.dtype, to.weight.dtype, "the dtype of weight");
  operands.expect_apart({{"sum", "residual"}});
  return to;
}

LayerNormBackward contract_of(Norm norm, const lamina_norm_backward_args* pointer) {
  LayerNormBackward to{};
  to.norm = norm;
  const std::string_view op = to.name();
  const lamina_norm_backward_args& from = checked(op, pointer);
  Operands operands(op, from.rows, from.cols);
  to.x = operands.matrix("x", from.x, Direction::in);
  to.dy = operands.matrix("dy", from.dy, Direction::in);
  to.dsum = operands.optional_matrix("dsum", from.dsum, Direction::in);
  to.weight = operands.vector("weight", from.weight, Direction::in);
  to.mean = operands.floats("mean", from.mean, from.rows, Direction::in);
  to.rstd = operands.floats("rstd", from.rstd, from.rows, Direction::in);
  to.dx = operands.optional_matrix("dx", from.dx, Direction::out);
  to.dx_drop = operands.optional_matrix("dx_drop", from.dx_drop, Direction::out);
  to.dweight = operands.vector("dweight", from.dweight, Direction::out);
  to.dbias = operands.vector("dbias", from.dbias, Direction::out);
  to.column_sum = operands.floats("column_sum", from.column_sum, from.cols, Direction::out);
  to.dx_write = checked_write(op, "dx_write", from.dx_write);
  to.dweight_write = checked_write(op, "dweight_write", from.dweight_write);
  to.dbias_write = checked_write(op, "dbias_write", from.dbias_write);
  to.drop_p = from.drop_p;
  to.key = {from.seed, from.offset};

  expect_drop_p(op, from.drop_p);
  if (norm == Norm::layer) {
    expect_statistic(op, "mean", to.mean, operands);
  } else {
    expect_none(op, {{"mean", from.mean}, {"dbias", from.dbias.data}});
  }
  expect_statistic(op, "rstd", to.rstd, operands);
  operands.expect_same_or_f32("x", to.x.dtype, to.dy.dtype, "dy");
  if (to.dsum) operands.expect_dtype("dsum", to.dsum.dtype, to.x.dtype, "the dtype of x");
  if (to.dx) operands.expect_dtype("dx", to.dx.dtype, to.x.dtype, "the dtype of x");
  if (to.dx_drop)
    operands.expect_dtype("dx_drop", to.dx_drop.dtype, to.dy.dtype, "the dtype of dy");
  if (to.weight) operands.expect_same_or_f32("weight", to.weight.dtype, to.dy.dtype, "dy");
  expect_sum_dtype("dweight", operands, to.dweight, to.weight, to.dy.dtype);
  expect_sum_dtype("dbias", operands, to.dbias, to.weight, to.dy.dtype);
  if (to.dweight && to.dbias)
    operands.expect_dtype("dbias", to.dbias.dtype, to.dweight.dtype, "the dtype of dweight");
  if (to.dx_write == GradWrite::overwrite) {
    operands.expect_apart({{"dx", "dy"}, {"dx", "dsum"}});
  } else {
    operands.expect_apart({});
  }
  return to;
}

/// The stream of a call whose operands were found to fit. Throws DeviceError.
CudaStream stream_of(std::string_view op, int device, void* stream) {
  if (device < 0 || device >= cuda_device_count()) {
    throw DeviceError(cat(op, ": device is ", device, ", expected 0 or more and below ",
                          cuda_device_count(), " (the CUDA devices of this machine)"));
  }
  return {static_cast<CUstream_st*>(stream), device};
}

template <class Args>
void queue(const Args& args, CudaStream stream) {
  run(args, stream);
  cuda::check_launch(stream, args.name(), false);
}

int forward(Norm norm, const lamina_norm_args* from, int device, void* handle) noexcept {
  return guarded([&] {
    const LayerNorm args = contract_of(norm, from);
    if (args.x.rows == 0 || args.x.cols == 0) return;
    const CudaStream stream = stream_of(args.name(), device, handle);
    const CurrentDevice current{stream};
    queue(args, stream);
  });
}

int backward(Norm norm, const lamina_norm_backward_args* from, int device, void* handle) noexcept {
  return guarded([&] {
    LayerNormBackward args = contract_of(norm, from);
    if (args.x.cols == 0) return;
    const std::string_view op = args.name();
    const CudaStream stream = stream_of(op, device, handle);
    const CurrentDevice current{stream};
    const std::int64_t needed = workspace_bytes(args, stream);
    const std::int64_t given = from->workspace == nullptr ? 0 : from->workspace_bytes;
    if (given < needed) {
      throw Error(cat(op, ": workspace has ", given, " bytes, expected at least ", needed,
                      " (what lamina_", op, "_workspace_bytes gives)"));
    }
    if (reinterpret_cast<std::uintptr_t>(from->workspace) % 16 != 0) {
      throw Error(cat(op, ": workspace is at ", from->workspace, ", expected a multiple of 16"));
    }
    args.workspace = {from->workspace, given, DType::u8};
    queue(args, stream);
  });
}

int workspace(Norm norm, const lamina_norm_backward_args* from, int device,
              std::int64_t* bytes) noexcept {
  return guarded([&] {
    const LayerNormBackward args = contract_of(norm, from);
    if (bytes == nullptr) {
      throw Error(cat(args.name(), ": bytes is NULL, expected where to write them"));
    }
    if (args.x.cols == 0) {
      *bytes = 0;
      return;
    }
    const CudaStream stream = stream_of(args.name(), device, nullptr);
    const CurrentDevice current{stream};
    *bytes = workspace_bytes(args, stream);
  });
}

}  // namespace
}  // namespace lamina::kernels

using lamina::kernels::Norm;

int lamina_layer_norm(const lamina_norm_args* args, int device, void* stream) {
  return lamina::kernels::forward(Norm::layer, args, device, stream);
}

int lamina_rms_norm(const lamina_norm_args* args, int device, void* stream) {
  return lamina::kernels::forward(Norm::rms, args, device, stream);
}

int lamina_layer_norm_backward(const lamina_norm_backward_args* args, int device, void* stream) {
  return lamina::kernels::backward(Norm::layer, args, device, stream);
}

int lamina_rms_norm_backward(const lamina_norm_backward_args* args, int device, void* stream) {
  return lamina::kernels::backward(Norm::rms, args, device, stream);
}

int lamina_layer_norm_backward_workspace_bytes(const lamina_norm_backward_args* args, int device,
                                               int64_t* bytes) {
  return lamina::kernels::workspace(Norm::layer, args, device, bytes);
}

int lamina_rms_norm_backward_workspace_bytes(const lamina_norm_backward_args* args, int device,
                                             int64_t* bytes) {
  return lamina::kernels::workspace(Norm::rms, args, device, bytes);
}

const char* lamina_last_error(void) {
  return lamina::kernels::last_error.data();
}

const char* lamina_version(void) {
  return LAMINA_VERSION;
}
