// SPDX-License-Identifier: MIT
// The timed plans of matrix products between runs. Timing is a measurement: two cold runs may
// choose differently and then differ in rounding. So plans are kept in a file that runs share.
#pragma once

#include "core/device.h"
#include "core/stream.h"

#include <filesystem>
#include <string>

namespace lamina::gpt {

class GemmPlanFile {
 public:
  /// Loads what is there. `option` is the value of --gemm-plans: a path, "none", or "auto" for
  /// gemm_plans.txt in the user's cache directory. The CPU has no plans. Throws Error for a file
  /// that was asked for and is not one of plans; a cache that is not one is made anew. The plans in
  /// `of_run`, if there is such a file, count more: a run that goes on keeps its bits.
  GemmPlanFile(const std::string& option, Device device, const std::filesystem::path& of_run);

  /// Whether products are to be timed.
  bool is_used() const { return !path_.empty(); }

  /// Writes the file when plans were made since, and all that are known to `copy`. What another
  /// process wrote in between is kept, unless both write at the same moment. Throws Error when a
  /// path that was asked for cannot be written; without the cache directory, nothing is kept there.
  void save(const std::filesystem::path& copy);

 private:
  void load() const;
  void load(const std::string& text) const;

  Stream stream_;
  std::filesystem::path path_;  // empty: not used
  bool is_asked_for_ = false;
  std::string saved_;
};

/// The table of --gemm-report: a header and a line per problem; "" on the CPU.
std::string gemm_report(Device device);

}  // namespace lamina::gpt
