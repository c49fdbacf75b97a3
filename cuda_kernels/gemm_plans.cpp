// SPDX-License-Identifier: MIT
// A stored plan is a line of four fields, separated by tabs: GPU, version of cuBLASLt, problem, and
// "fusion rank us first_us workspace algorithm", the algorithm being the bytes of cuBLASLt's struct
// in hexadecimal, which its documentation allows to be restored in the same version.
#include "cuda_kernels/gemm_plans.h"

#include "core/cuda/device_guard.h"
#include "core/cuda/runtime.h"
#include "core/device.h"
#include "core/error.h"
#include "core/kernels/gemm_plans.h"
#include "core/text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sstream>
#include <utility>
#include <vector>

namespace lamina::kernels {
namespace {

constexpr std::int64_t kTimedFlops = 1'000'000'000;  // some 2 us: less is not worth the timing
constexpr int kFirstAlgorithms = 8;                  // of which the first that fits is taken
constexpr char kSeparator = '\t';

std::string hex_of(const cublasLtMatmulAlgo_t& algorithm) {
  std::array<unsigned char, sizeof(algorithm)> bytes{};
  std::memcpy(bytes.data(), &algorithm, sizeof(algorithm));
  std::string text;
  for (const unsigned char byte : bytes) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    text += {kDigits[byte >> 4U], kDigits[byte & 15U]};
  }
  return text;
}

std::optional<cublasLtMatmulAlgo_t> algorithm_of(const std::string& hex) {
  std::array<unsigned char, sizeof(cublasLtMatmulAlgo_t)> bytes{};
  if (hex.size() != 2 * bytes.size()) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); ++i) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const std::size_t digit = kDigits.find(hex[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    bytes[i / 2] = static_cast<unsigned char>(bytes[i / 2] << 4U | digit);
  }
  cublasLtMatmulAlgo_t algorithm{};
  std::memcpy(&algorithm, bytes.data(), sizeof(algorithm));
  return algorithm;
}

std::string text_of(const GemmChoice& choice) {
  return cat(name_of(choice.way.fusion), " ", choice.way.rank, " ", choice.us, " ", choice.first_us,
             " ", choice.way.algorithm.workspace, " ", hex_of(choice.way.algorithm.choice));
}

std::optional<GemmChoice> choice_of(const std::string& text) {
  std::istringstream in(text);
  std::string fusion, hex, rest;
  GemmChoice choice{};
  std::int64_t& workspace = choice.way.algorithm.workspace;
  if (!(in >> fusion >> choice.way.rank >> choice.us >> choice.first_us >> workspace >> hex) ||
      in >> rest || workspace < 0) {
    return std::nullopt;
  }
  const auto algorithm = algorithm_of(hex);
  for (const GemmFusion known : {GemmFusion::none, GemmFusion::bias, GemmFusion::gelu}) {
    if (algorithm && fusion == name_of(known)) {
      choice.way.fusion = known;
      choice.way.algorithm.choice = *algorithm;
      return choice;
    }
  }
  return std::nullopt;
}

template <class... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

}  // namespace

GemmPlans::GemmPlans(int device)
    : place_(cat(device_info({DeviceKind::cuda, device}).name, kSeparator, "cuBLASLt ",
                 cublasLtGetVersion())) {
  const cuda::DeviceGuard guard(device);  // the handle belongs to the current device
  const cublasStatus_t status = cublasLtCreate(&handle_);
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw CudaError(cat("gemm: cublasLtCreate returned ", cublasLtGetStatusName(status)),
                    static_cast<int>(status));
  }
}

GemmPlans::~GemmPlans() {
  cublasLtDestroy(handle_);
}

void GemmPlans::run(const Gemm& args, CudaStream stream) {
  const std::scoped_lock lock(mutex_);
  Plan& plan = plan_for(args, problem_of(args), stream);
  plan.call.run(handle_, plan.choice.way.algorithm, args, stream);
}

std::vector<GemmWay> GemmPlans::ways(const Gemm& args, int algorithms) const {
  const GemmProblem problem = problem_of(args);
  std::vector<GemmWay> ways;
  for (const GemmFusion fusion : fusions_of(problem, true)) {
    int rank = 0;
    for (const auto& algorithm : GemmCall(args, problem, fusion).algorithms(handle_, algorithms))
      ways.push_back({.fusion = fusion, .rank = rank++, .algorithm = algorithm});
  }
  return ways;
}

void GemmPlans::run(const GemmWay& way, const Gemm& args, CudaStream stream) const {
  GemmCall(args, problem_of(args), way.fusion).run(handle_, way.algorithm, args, stream);
}

GemmPlans::Plan& GemmPlans::plan_for(const Gemm& args, const GemmProblem& problem,
                                     CudaStream stream) {
  const auto entry = plans_.find(problem);
  const bool is_known = entry != plans_.end();
  const bool may_be_timed = TimeGemms::is_on() && !cuda::is_capturing(stream);
  if (is_known && !(may_be_timed && entry->second.origin == Origin::untimed)) return entry->second;
  std::optional<Plan> plan = loaded_plan(args, problem);
  if (!plan && may_be_timed) plan = timed_plan(args, problem, stream);
  if (!plan) plan = first_plan(args, problem);
  plan->order = is_known ? entry->second.order : plans_.size();
  return plans_.insert_or_assign(problem, std::move(*plan)).first->second;
}

std::optional<GemmPlans::Plan> GemmPlans::loaded_plan(const Gemm& args,
                                                      const GemmProblem& problem) {
  const auto line = stored_.find(key_of(problem));
  if (line == stored_.end()) return std::nullopt;
  const GemmChoice choice = choice_of(line->second).value();  // load() has looked at it
  const std::vector<GemmFusion> fusions = fusions_of(problem, true);
  const bool is_possible =
      std::find(fusions.begin(), fusions.end(), choice.way.fusion) != fusions.end();
  GemmCall call(args, problem, is_possible ? choice.way.fusion : GemmFusion::none);
  if (!is_possible || !call.accepts(handle_, choice.way.algorithm)) {
    throw Error(cat("gemm: the stored plan of ", kernels::text_of(problem),
                    " does not fit it, expected one that was timed for it; delete the line"));
  }
  return Plan{.call = std::move(call), .choice = choice, .origin = Origin::loaded, .order = 0};
}

GemmPlans::Plan GemmPlans::timed_plan(const Gemm& args, const GemmProblem& problem,
                                      CudaStream stream) {
  const bool is_small = problem.flops() < kTimedFlops;
  const auto choice = is_small ? std::nullopt : time_gemm(handle_, args, problem, stream);
  if (!choice) {
    Plan plan = first_plan(args, problem);
    plan.origin = is_small ? Origin::small : Origin::no_memory;
    return plan;
  }
  stored_[key_of(problem)] = text_of(*choice);
  return {.call = GemmCall(args, problem, choice->way.fusion),
          .choice = *choice,
          .origin = Origin::timed,
          .order = 0};
}

/// The first algorithm that cuBLASLt proposes for the usual fusion, or for the next one.
GemmPlans::Plan GemmPlans::first_plan(const Gemm& args, const GemmProblem& problem) {
  for (const GemmFusion fusion : fusions_of(problem, false)) {
    GemmCall call(args, problem, fusion);
    const std::vector<GemmAlgorithm> algorithms = call.algorithms(handle_, kFirstAlgorithms);
    if (algorithms.empty()) continue;
    return {.call = std::move(call),
            .choice = {.way = {.fusion = fusion, .rank = 0, .algorithm = algorithms.front()},
                       .us = 0.0,
                       .first_us = 0.0},
            .origin = Origin::untimed,
            .order = 0};
  }
  throw Error(cat("gemm: cuBLASLt has no algorithm for ", kernels::text_of(problem),
                  ", expected at least one; align rows to 16 B or pass a larger workspace"));
}

std::string GemmPlans::key_of(const GemmProblem& problem) const {
  return cat(place_, kSeparator, kernels::text_of(problem));
}

std::string GemmPlans::stored() const {
  const std::scoped_lock lock(mutex_);
  std::string text;
  for (const auto& [key, choice] : stored_)
    text += cat(key, kSeparator, choice, "\n");
  return text;
}

void GemmPlans::load(const std::string& text) {
  const std::scoped_lock lock(mutex_);
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) continue;
    const std::size_t end = line.rfind(kSeparator);
    const auto fields = std::count(line.begin(), line.end(), kSeparator) + 1;
    if (fields != 4 || !choice_of(line.substr(end + 1))) {
      throw Error(cat("gemm: a line of the plans is \"", line, "\", expected GPU, version of ",
                      "cuBLASLt, problem and choice, separated by tabs (as they were written); ",
                      "delete the line"));
    }
    stored_.try_emplace(line.substr(0, end), line.substr(end + 1));
  }
}

std::string_view GemmPlans::name_of(Origin origin) {
  switch (origin) {
    case Origin::untimed:
      return "untimed";
    case Origin::small:
      return "small";
    case Origin::no_memory:
      return "no memory";
    case Origin::timed:
      return "timed";
    case Origin::loaded:
      return "loaded";
  }
  return "";
}

std::string GemmPlans::row_of(const GemmProblem& problem, const Plan& plan) const {
  const GemmChoice& choice = plan.choice;
  const std::string extents =
      formatted("%7lld %6lld %6lld %5lld", static_cast<long long>(problem.m),
                static_cast<long long>(problem.n), static_cast<long long>(problem.k),
                static_cast<long long>(problem.batch));
  const std::string operands =
      cat(problem.transpose_a ? "a^T" : "a", problem.transpose_b ? " b^T" : " b");
  const std::string dtypes = cat(problem.dtype, " to ", problem.d_dtype);
  const std::string times = choice.us > 0.0
                                ? formatted("%9.1f %8.1f %8.1f%%", choice.us,
                                            static_cast<double>(problem.flops()) / choice.us * 1e-6,
                                            100.0 * choice.us / choice.first_us)
                                : formatted("%9s %8s %9s", "-", "-", "-");
  return cat(extents, formatted("  %-7s", operands.c_str()), formatted("  %-12s", dtypes.c_str()),
             formatted("  %-26s", epilogue_text(problem).c_str()),
             formatted("  %-5s", std::string(kernels::name_of(choice.way.fusion)).c_str()), times,
             formatted("  %-9s", std::string(name_of(plan.origin)).c_str()), "  ", choice.way.rank,
             ": ", kernels::text_of(choice.way.algorithm), "\n");
}

std::string GemmPlans::report() const {
  const std::scoped_lock lock(mutex_);
  std::vector<std::pair<std::size_t, std::string>> rows;
  for (const auto& [problem, plan] : plans_)
    rows.emplace_back(plan.order, row_of(problem, plan));
  std::sort(rows.begin(), rows.end());
  std::string text =
      "      m      n      k batch  product  dtypes        epilogue                    fused       "
      "us"
      "  TFLOP/s  of first  choice     algorithm\n";
  for (const auto& [order, row] : rows)
    text += row;
  return text;
}

GemmPlans& gemm_plans_of(int device) {
  static std::mutex mutex;
  // Never destroyed: the driver may be gone before static destructors run.
  static auto& plans = *new std::map<int, std::unique_ptr<GemmPlans>>;
  const std::scoped_lock lock(mutex);
  std::unique_ptr<GemmPlans>& own = plans[device];
  if (!own) own = std::make_unique<GemmPlans>(device);
  return *own;
}

std::string gemm_plans(CudaStream stream) {
  return gemm_plans_of(stream.device).stored();
}

void load_gemm_plans(const std::string& text, CudaStream stream) {
  gemm_plans_of(stream.device).load(text);
}

std::string gemm_report(CudaStream stream) {
  return gemm_plans_of(stream.device).report();
}

}  // namespace lamina::kernels
