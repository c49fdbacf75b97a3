// SPDX-License-Identifier: MIT
// How matrix products choose their algorithm. cuBLASLt lists several for a problem (shapes,
// layouts, dtypes, epilogue); its first is often not the fastest, and what it fuses may cost more
// than a pass of its own. By default a product takes the first. With a TimeGemms the likely ones
// are timed. What was chosen is kept for the process, and can be kept as text for the next one:
// another algorithm adds in another order, so only runs with the same plans give the same bits. The
// CPU has nothing to choose.
#pragma once

#include "core/stream.h"

#include <string>
#include <utility>

namespace lamina {

/// While one of these lives, this thread's products are timed on the device when a problem comes up
/// that has no timed plan yet: on random numbers in memory that is given back, with the epilogue
/// that the product has. That takes some 200 to 400 ms and waits for the device. No timing:
/// products below 10^9 FLOPs, while a graph is captured, and without memory for a second set of the
/// operands.
class TimeGemms {
 public:
  explicit TimeGemms(bool on = true) : previous_(std::exchange(on_, on)) {}

  ~TimeGemms() { on_ = previous_; }

  TimeGemms(const TimeGemms&) = delete;
  TimeGemms& operator=(const TimeGemms&) = delete;

  static bool is_on() { return on_; }

 private:
  inline static thread_local bool on_ = false;
  bool previous_;
};

namespace kernels {

/// The timed plans of the stream's device and those that were loaded, a line each; "" on the CPU.
std::string gemm_plans(CpuStream stream);
std::string gemm_plans(CudaStream stream);

/// Makes the lines of gemm_plans() count for problems that have no plan yet. Lines of other GPUs
/// and of other versions of cuBLASLt are kept, but not used. Throws Error for a line of another
/// form.
void load_gemm_plans(const std::string& text, CpuStream stream);
void load_gemm_plans(const std::string& text, CudaStream stream);

/// A table of the problems that came up and what was chosen, in their order; "" on the CPU. us is
/// the time of the whole product with its epilogue, "of first" that time as a share of the time of
/// cuBLASLt's first algorithm with the usual epilogue.
std::string gemm_report(CpuStream stream);
std::string gemm_report(CudaStream stream);

}  // namespace kernels
}  // namespace lamina
