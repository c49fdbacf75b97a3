// SPDX-License-Identifier: MIT
// Backward pass of LayerNorm and RMSNorm on CUDA: dx, the gradient of the residual stream,
// dropout's mask and the sums over rows in one pass over x and dy, then a small kernel that adds
// partial sums. The kernels of RMSNorm are in rms_norm_backward.cu. See docs/kernels/layer_norm.md.
#include "core/kernels/layer_norm.h"
#include "cuda_kernels/row_norm_backward.cuh"
#include "cuda_kernels/row_norm_partials.cuh"

namespace lamina::kernels {
namespace row_norm {

extern template BackwardPlan plan_backward<Norm::rms>(const RowPolicy&, const LayerNormBackward&,
                                                      const RowProblem&);

namespace {

BackwardPlan plan_of(const RowPolicy& policy, const LayerNormBackward& args,
                     const RowProblem& problem) {
  return args.norm == Norm::layer ? plan_backward<Norm::layer>(policy, args, problem)
                                  : plan_backward<Norm::rms>(policy, args, problem);
}

/// Lanes of a warp that read a partial row, `packs` packs long: as few as leave no block waiting
/// for another to end, since a block with few columns has its rows at once.
int sum_lanes(std::int64_t packs, int sums, const RowProblem& problem) {
  constexpr int kAtOnce = 3;  // blocks of a multiprocessor
  const std::int64_t room = std::int64_t{kAtOnce} * problem.multiprocessors;
  int lanes = 8;
  while (lanes < device::kWarpSize && (packs + lanes - 1) / lanes * sums > room)
    lanes *= 2;
  return lanes;
}

/// Both kernels. No rows: the sums are 0. No sums asked for: there is no second kernel.
void launch_backward(const RowPolicy& policy, const LayerNormBackward& args,
                     const RowProblem& problem, CudaStream stream) {
  if (args.x.cols == 0) return;
  const SumSlots slots(args);
  int rows_of_partials = 0;
  if (args.x.rows > 0) {
    const BackwardPlan plan = plan_of(policy, as_launched(args), problem);
    const std::int64_t wanted = backward_workspace_bytes(policy, args, problem);
    LAMINA_CHECK(args.workspace.size >= wanted, args.name(), ": workspace has ",
                 args.workspace.size, " bytes, expected ", wanted, " (rows of partial sums)");
    prepare_kernel(reinterpret_cast<const void*>(plan.kernel), plan.shape.shared_bytes, problem.sm);
    launch_kernel(plan.kernel, plan.shape, stream, as_launched(args),
                  DropMask(args.drop_p, args.key), slots, args.workspace.as<float>(), plan.scalars);
    rows_of_partials = static_cast<int>(partial_rows(policy, problem));
  }
  if (slots.count == 0) return;
  SumOutputs to;
  const auto set = [&](int slot, const Flat& view, GradWrite write) {
    if (slot < 0) return;
    to.outputs[slot] = {view.data, view.dtype, write == GradWrite::accumulate};
  };
  set(slots.dweight, args.dweight, args.dweight_write);
  set(slots.dbias, args.dbias, args.dbias_write);
  set(slots.column_sum, args.column_sum, GradWrite::overwrite);
  const int width = args.x.cols % 4 == 0 ? 4 : 1;
  const int lanes = width == 4 ? sum_lanes(args.x.cols / width, slots.count, problem) : 32;
  const auto kernel = width == 1    ? add_partials<1, 32>
                      : lanes == 8  ? add_partials<4, 8>
                      : lanes == 16 ? add_partials<4, 16>
                                    : add_partials<4, 32>;
  const std::int64_t columns = std::int64_t{width} * lanes;  // of a block
  const auto blocks = static_cast<unsigned>((args.x.cols + columns - 1) / columns);
  launch_kernel(kernel,
                {.grid = dim3(blocks, static_cast<unsigned>(slots.count)),
                 .block = dim3(device::kWarpSize, kSumWarps)},
                stream, args.workspace.as<const float>(), rows_of_partials,
                static_cast<int>(args.x.cols), to);
}

}  // namespace
}  // namespace row_norm

tuning::RowProblem row_problem(const LayerNormBackward& args, CudaStream stream) {
  return row_norm::backward_problem(args, stream);
}

std::int64_t workspace_bytes(const tuning::RowPolicy& policy, const LayerNormBackward& args,
                             CudaStream stream) {
  return row_norm::backward_workspace_bytes(policy, args, row_problem(args, stream));
}

std::int64_t workspace_bytes(const LayerNormBackward& args, CudaStream stream) {
  return workspace_bytes(tuning::backward_policy(row_problem(args, stream)), args, stream);
}

void run_with(const tuning::RowPolicy& policy, const LayerNormBackward& args, CudaStream stream) {
  row_norm::launch_backward(policy, args, row_problem(args, stream), stream);
}

void run(const LayerNormBackward& args, CudaStream stream) {
  run_with(tuning::backward_policy(row_problem(args, stream)), args, stream);
}

std::int64_t local_bytes(const tuning::RowPolicy& policy, const LayerNormBackward& args,
                         CudaStream stream) {
  return row_norm::local_bytes(row_norm::plan_of(policy, args, row_problem(args, stream)).kernel);
}

}  // namespace lamina::kernels
