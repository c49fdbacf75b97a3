// SPDX-License-Identifier: MIT
// GemmPlans: the ways that one device does its matrix products. A plan is made once per problem and
// kept for the process, so that the same problem runs the same algorithm and gives the same bits.
// Plans that were timed can be kept as text for other processes. Internal to the CUDA kernels.
#pragma once

#include "cuda_kernels/gemm_timing.h"

#include <cublasLt.h>

#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::kernels {

class GemmPlans {
 public:
  explicit GemmPlans(int device);
  ~GemmPlans();
  GemmPlans(const GemmPlans&) = delete;
  GemmPlans& operator=(const GemmPlans&) = delete;

  /// Queues the product of `args` (k > 0) and what follows it.
  void run(const Gemm& args, CudaStream stream);

  /// As gemm_plans(), load_gemm_plans() and gemm_report() say.
  std::string stored() const;
  void load(const std::string& text);
  std::string report() const;

  /// What run() may choose from, with up to `algorithms` for each fusion; and one of it: for tests.
  std::vector<GemmWay> ways(const Gemm& args, int algorithms) const;
  void run(const GemmWay& way, const Gemm& args, CudaStream stream) const;

 private:
  /// Where a plan comes from. Only the first one is made anew by a TimeGemms.
  enum class Origin : std::uint8_t { untimed, small, no_memory, timed, loaded };

  struct Plan {
    GemmCall call;
    GemmChoice choice;  // its times are 0 where nothing was timed
    Origin origin;
    std::size_t order;  // of the first use
  };

  static std::string_view name_of(Origin origin);

  Plan& plan_for(const Gemm& args, const GemmProblem& problem, CudaStream stream);
  std::optional<Plan> loaded_plan(const Gemm& args, const GemmProblem& problem);
  Plan timed_plan(const Gemm& args, const GemmProblem& problem, CudaStream stream);
  Plan first_plan(const Gemm& args, const GemmProblem& problem);
  std::string key_of(const GemmProblem& problem) const;
  std::string row_of(const GemmProblem& problem, const Plan& plan) const;

  mutable std::mutex mutex_;  // of everything below, and of the pointers inside the calls
  std::string place_;         // the GPU and the version of cuBLASLt: what a stored plan is good for
  cublasLtHandle_t handle_ = nullptr;
  std::map<GemmProblem, Plan> plans_;
  std::map<std::string, std::string> stored_;  // lines of load() and of timed plans: key and choice
};

/// The plans of a device; made at the first call.
GemmPlans& gemm_plans_of(int device);

}  // namespace lamina::kernels
