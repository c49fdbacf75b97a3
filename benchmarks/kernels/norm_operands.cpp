// SPDX-License-Identifier: MIT
#include "benchmarks/kernels/norm_operands.h"

#include "core/cuda/check.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <random>
#include <utility>

namespace lamina::bench {
namespace {

using kernels::LayerNorm;
using kernels::LayerNormBackward;
using kernels::Norm;

constexpr double kEps = 1e-5;
constexpr float kDropP = 0.1F;
constexpr std::int64_t kAlignment = 256;    // bytes, of every operand
constexpr std::int64_t kPattern = 1 << 21;  // normals that the inputs repeat

/// Hands out one block from its beginning. Without a block it only counts: the addresses are then
/// not to be used.
class Region {
 public:
  explicit Region(void* block = nullptr) : next_(reinterpret_cast<std::uintptr_t>(block)) {
    if (block == nullptr) next_ = kAlignment;  // no operand looks as if it were not there
    first_ = next_;
  }

  Rows matrix(std::int64_t rows, std::int64_t cols, DType dtype) {
    return {take(rows * cols * static_cast<std::int64_t>(size_of(dtype))), rows, cols, cols, dtype};
  }

  Flat vector(std::int64_t size, DType dtype) {
    return {take(size * static_cast<std::int64_t>(size_of(dtype))), size, dtype};
  }

  std::int64_t taken() const { return static_cast<std::int64_t>(next_ - first_); }

 private:
  void* take(std::int64_t bytes) {
    const std::uintptr_t begin = next_;
    next_ += static_cast<std::uintptr_t>((bytes + kAlignment - 1) / kAlignment * kAlignment);
    return reinterpret_cast<void*>(begin);
  }

  std::uintptr_t first_ = 0;
  std::uintptr_t next_;
};

Norm kind_of(NormOp op) {
  return name_of(op).starts_with("rms_") ? Norm::rms : Norm::layer;
}

bool has_residual(NormOp op) {
  return op == NormOp::add_forward || op == NormOp::dropout_add_forward ||
         op == NormOp::rms_add_forward;
}

bool has_dsum(NormOp op) {
  return op == NormOp::add_backward || op == NormOp::backward_column_sum ||
         op == NormOp::rms_add_backward;
}

LayerNorm forward_call(const NormCase& norm, Region& in, Region& out) {
  LayerNorm args{.eps = kEps, .norm = kind_of(norm.op)};
  args.x = in.matrix(norm.rows, norm.cols, has_residual(norm.op) ? norm.element : norm.stream);
  if (has_residual(norm.op)) {
    args.residual = in.matrix(norm.rows, norm.cols, norm.stream);
    args.sum = out.matrix(norm.rows, norm.cols, norm.stream);
  }
  const bool is_centred = args.norm == Norm::layer;
  args.weight = in.vector(norm.cols, norm.weight);
  if (is_centred) args.bias = in.vector(norm.cols, norm.weight);
  args.y = out.matrix(norm.rows, norm.cols, norm.element);
  if (is_centred) args.mean = out.vector(norm.rows, DType::f32);
  args.rstd = out.vector(norm.rows, DType::f32);
  if (norm.op == NormOp::dropout_add_forward) {
    args.drop_p = kDropP;
    args.key = {.seed = 1337, .offset = 0};
  }
  return args;
}

/// `forward`, if not null, is the call whose x and statistics the gradient is taken at.
LayerNormBackward backward_call(const NormCase& norm, const LayerNorm* forward, Region& in,
                                Region& out) {
  LayerNormBackward args;
  args.norm = kind_of(norm.op);
  const bool is_centred = args.norm == Norm::layer;
  args.x = forward ? forward->x : in.matrix(norm.rows, norm.cols, norm.stream);
  args.dy = in.matrix(norm.rows, norm.cols, norm.element);
  args.weight = forward ? forward->weight : in.vector(norm.cols, norm.weight);
  if (is_centred) args.mean = forward ? forward->mean : in.vector(norm.rows, DType::f32);
  args.rstd = forward ? forward->rstd : in.vector(norm.rows, DType::f32);
  args.dx = out.matrix(norm.rows, norm.cols, norm.stream);
  args.dweight = out.vector(norm.cols, norm.weight);
  if (is_centred) args.dbias = out.vector(norm.cols, norm.weight);
  if (has_dsum(norm.op)) args.dsum = in.matrix(norm.rows, norm.cols, norm.stream);
  if (norm.op == NormOp::backward_column_sum) args.column_sum = out.vector(norm.cols, DType::f32);
  return args;
}

/// A set without workspace.
NormSet calls_of(const NormCase& norm, Region& in, Region& out) {
  switch (norm.op) {
    case NormOp::forward:
    case NormOp::add_forward:
    case NormOp::dropout_add_forward:
    case NormOp::rms_forward:
    case NormOp::rms_add_forward:
      return {forward_call(norm, in, out)};
    case NormOp::backward:
    case NormOp::add_backward:
    case NormOp::backward_column_sum:
    case NormOp::rms_backward:
    case NormOp::rms_add_backward:
      return {backward_call(norm, nullptr, in, out)};
    case NormOp::forward_backward: {
      const LayerNorm forward = forward_call(norm, in, out);
      return {forward, backward_call(norm, &forward, in, out)};
    }
  }
  return {};
}

template <class Args>
concept HasWorkspace = requires(Args args) {
  args.workspace;
};

NormSet set_of(const NormCase& norm, const WorkspaceBytes& workspace, Region& in, Region& out) {
  NormSet set = calls_of(norm, in, out);
  for (NormCall& call : set) {
    const std::int64_t bytes = workspace(call);
    std::visit(
        [&]<class Args>(Args& args) {
          if constexpr (HasWorkspace<Args>) args.workspace = out.vector(bytes, DType::u8);
        },
        call);
  }
  return set;
}

}  // namespace

std::string_view name_of(NormOp op) {
  switch (op) {
    case NormOp::forward:
      return "forward";
    case NormOp::add_forward:
      return "add_forward";
    case NormOp::dropout_add_forward:
      return "dropout_add_forward";
    case NormOp::backward:
      return "backward";
    case NormOp::add_backward:
      return "add_backward";
    case NormOp::backward_column_sum:
      return "backward_column_sum";
    case NormOp::rms_forward:
      return "rms_forward";
    case NormOp::rms_backward:
      return "rms_backward";
    case NormOp::rms_add_forward:
      return "rms_add_forward";
    case NormOp::rms_add_backward:
      return "rms_add_backward";
    case NormOp::forward_backward:
      return "forward_backward";
  }
  return "?";
}

NormOp norm_op(std::string_view name, std::string_view program) {
  std::string known;
  for (const NormOp op : kNormOps) {
    if (name_of(op) == name) return op;
    known += (known.empty() ? "" : ", ") + std::string(name_of(op));
  }
  throw Error(cat(program, ": op is '", name, "', expected one of ", known));
}

void run(const NormSet& set, CudaStream stream) {
  for (const NormCall& call : set)
    std::visit([&](const auto& args) { kernels::run(args, stream); }, call);
}

std::int64_t bytes_of(const NormSet& set) {
  std::int64_t bytes = 0;
  for (const NormCall& call : set)
    bytes += std::visit([](const auto& args) { return args.cost().bytes; }, call);
  return bytes;
}

std::int64_t bytes_of(const NormCase& norm) {
  Region in;
  Region out;
  return bytes_of(calls_of(norm, in, out));
}

WorkspaceBytes contract_workspace(CudaStream stream) {
  return [stream](const NormCall& call) {
    return std::visit(
        [&]<class Args>(const Args& args) -> std::int64_t {
          if constexpr (HasWorkspace<Args>) return kernels::workspace_bytes(args, stream);
          return 0;
        },
        call);
  };
}

std::vector<NormSet> OperandPool::sets(const NormCase& norm, int count,
                                       const WorkspaceBytes& workspace) {
  Region counted_in;
  Region counted_out;
  set_of(norm, workspace, counted_in, counted_out);
  reserve(count * counted_in.taken(), count * counted_out.taken());
  Region in(inputs_.data());
  Region out(outputs_.data());
  std::vector<NormSet> sets;
  for (int i = 0; i < count; ++i)
    sets.push_back(set_of(norm, workspace, in, out));
  return sets;
}

OperandPool::Blocks OperandPool::blocks(std::int64_t bytes) {
  reserve(bytes, bytes);
  return {inputs_.data(), outputs_.data()};
}

void OperandPool::reserve(std::int64_t input_bytes, std::int64_t output_bytes) {
  const Device device{DeviceKind::cuda, stream_.device};
  const auto grow = [&](Tensor& block, std::int64_t bytes) {
    if (block && block.elements() >= bytes) return false;
    block = Tensor();  // before the new one is asked for
    block = empty({bytes}, DType::u8, device);
    return true;
  };
  if (grow(inputs_, std::max(input_bytes, 2 * kPattern))) fill_inputs();
  if (grow(outputs_, output_bytes)) outputs_.fill(0);
}

void OperandPool::fill_inputs() {
  std::mt19937 random(1337);
  std::normal_distribution<float> normal;
  std::vector<BFloat16> pattern(kPattern);
  std::generate(pattern.begin(), pattern.end(), [&] { return BFloat16(normal(random)); });
  auto* const block = static_cast<std::byte*>(inputs_.data());
  const std::size_t size = inputs_.bytes();
  std::size_t filled = pattern.size() * sizeof(BFloat16);
  LAMINA_CUDA_CHECK(cudaMemcpy(block, pattern.data(), filled, cudaMemcpyHostToDevice));
  for (; filled < size; filled = std::min(2 * filled, size)) {
    LAMINA_CUDA_CHECK(cudaMemcpy(block + filled, block, std::min(filled, size - filled),
                                 cudaMemcpyDeviceToDevice));
  }
  LAMINA_CUDA_CHECK(cudaDeviceSynchronize());
}

}  // namespace lamina::bench
