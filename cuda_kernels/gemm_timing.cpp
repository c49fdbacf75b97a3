// SPDX-License-Identifier: MIT
#include "cuda_kernels/gemm_timing.h"

#include "core/cuda/runtime.h"
#include "core/error.h"
#include "core/text.h"
#include "cuda_kernels/gemm_scratch.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>

namespace lamina::kernels {
namespace {

constexpr int kAlgorithms = 24;       // per fusion
constexpr int kLeastAlgorithms = 12;  // of a problem that takes long
constexpr double kBudgetUs = 250e3;   // device time of the first round
constexpr double kSampleUs = 500.0;   // at least, of one measurement: launches are paced by then
constexpr int kMostLaunches = 10;     // of one measurement
constexpr std::size_t kFinalists = 5;
constexpr int kFinalRounds = 5, kMostFinalRounds = 60;
constexpr double kFinalUs = 150e3;  // of the final: long enough for the clocks of a step under load
constexpr double kGain = 1.02;      // more than noise: the usual way is kept without it

struct Candidate {
  GemmCall* call;
  int rank;
  GemmAlgorithm algorithm;
  std::vector<double> us;  // one per round; infinite when it does not run
};

/// One problem's candidates on one set of operands.
class Race {
 public:
  Race(cublasLtHandle_t handle, const Gemm& args, CudaStream stream)
      : handle_(handle), args_(args), stream_(stream) {}

  /// Measures each candidate once more: the mean time of `launches` launches in a row, the first
  /// time after one launch that loads the kernel. The device is given all of it at once.
  void run(const std::vector<Candidate*>& candidates, int launches) const {
    std::vector<std::pair<std::shared_ptr<void>, std::shared_ptr<void>>> times(candidates.size());
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      Candidate& candidate = *candidates[i];
      const bool runs =
          candidate.us.empty() ? launch(candidate) : std::isfinite(candidate.us.front());
      if (!runs) continue;
      times[i].first = cuda::record_time(stream_);
      for (int n = 0; n < launches; ++n)
        launch(candidate);
      times[i].second = cuda::record_time(stream_);
    }
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const auto& [start, stop] = times[i];
      const double ms = cuda::elapsed_ms(start.get(), stop.get());
      candidates[i]->us.push_back(std::isfinite(ms) ? 1e3 * ms / launches
                                                    : std::numeric_limits<double>::infinity());
    }
  }

 private:
  bool launch(const Candidate& candidate) const {
    return candidate.call->try_run(handle_, candidate.algorithm, args_, stream_);
  }

  cublasLtHandle_t handle_;
  const Gemm& args_;
  CudaStream stream_;
};

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

bool is_faster(const Candidate* a, const Candidate* b) {
  return median(a->us) < median(b->us);
}

/// How many algorithms of each fusion are worth their time when one product takes `us`.
int algorithms_within(double us, std::size_t fusions) {
  const double affordable = kBudgetUs / (2.0 * us * static_cast<double>(fusions));
  return static_cast<int>(std::clamp(affordable, static_cast<double>(kLeastAlgorithms),
                                     static_cast<double>(kAlgorithms)));
}

/// The first `count` algorithms of each call, the usual way first.
std::vector<Candidate> candidates_of(cublasLtHandle_t handle, std::vector<GemmCall>& calls,
                                     int count) {
  std::vector<Candidate> candidates;
  for (GemmCall& call : calls) {
    const std::vector<GemmAlgorithm> algorithms = call.algorithms(handle, count);
    for (std::size_t i = 0; i < algorithms.size(); ++i) {
      candidates.push_back(
          {.call = &call, .rank = static_cast<int>(i), .algorithm = algorithms[i], .us = {}});
    }
  }
  return candidates;
}

/// The time of the usual way, at least 1; infinite when it does not run.
double time_usual(const Race& race, Candidate usual) {
  race.run({&usual}, 1);
  return std::max(usual.us.front(), 1.0);
}

/// How often the finalists are timed: a device at its power limit, as it is in a step, may have
/// another favourite than one that has just woken up.
int final_rounds(const std::vector<Candidate*>& finalists, int launches) {
  double us = 0.0;  // of a round
  for (const Candidate* finalist : finalists) {
    if (std::isfinite(finalist->us.front())) us += finalist->us.front() * launches;
  }
  return static_cast<int>(
      std::clamp(kFinalUs / us, double{kFinalRounds}, double{kMostFinalRounds}));
}

/// Times all candidates once, and then the fastest and the usual way, which is the first, in turns.
/// Returns the fastest, or the usual way when that is not slower by more than noise.
const Candidate& winner_of(const Race& race, std::vector<Candidate>& candidates, int launches) {
  std::vector<Candidate*> order;
  for (Candidate& candidate : candidates)
    order.push_back(&candidate);
  race.run(order, launches);
  Candidate& usual = candidates.front();
  std::stable_sort(order.begin(), order.end(), is_faster);
  order.resize(std::min(order.size(), kFinalists));
  if (std::find(order.begin(), order.end(), &usual) == order.end()) order.push_back(&usual);
  const int rounds = final_rounds(order, launches);
  for (int round = 0; round < rounds; ++round)
    race.run(order, launches);
  const Candidate& best = **std::min_element(order.begin(), order.end(), is_faster);
  return median(usual.us) < kGain * median(best.us) ? usual : best;
}

}  // namespace

std::optional<GemmChoice> time_gemm(cublasLtHandle_t handle, const Gemm& args,
                                    const GemmProblem& problem, CudaStream stream) {
  const GemmScratch scratch(args, stream);
  if (!scratch) return std::nullopt;
  std::vector<GemmCall> calls;
  for (const GemmFusion fusion : fusions_of(problem, true))
    calls.emplace_back(scratch.args(), problem, fusion);
  const Race race(handle, scratch.args(), stream);

  std::vector<Candidate> candidates = candidates_of(handle, calls, 1);
  if (candidates.empty()) return std::nullopt;
  const double us = time_usual(race, candidates.front());
  const int launches =
      static_cast<int>(std::clamp(std::ceil(kSampleUs / us), 1.0, double{kMostLaunches}));
  candidates = candidates_of(handle, calls, algorithms_within(us * launches, calls.size()));
  const Candidate& best = winner_of(race, candidates, launches);
  if (!std::isfinite(median(best.us))) return std::nullopt;
  const double first_us = median(candidates.front().us);
  return GemmChoice{
      .way = {.fusion = best.call->fusion(), .rank = best.rank, .algorithm = best.algorithm},
      .us = median(best.us),
      .first_us = std::isfinite(first_us) ? first_us : median(best.us)};
}

}  // namespace lamina::kernels
