// SPDX-License-Identifier: MIT
// What layer_norm_sweep has measured, as JSON, and the tuning table made of it:
// cuda_kernels/tuning/layer_norm_sm90.h. Needs no GPU.
#pragma once

#include "cuda_kernels/tuning/row_policy.h"

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lamina::bench {

/// Microseconds per call of one policy.
struct MeasuredPolicy {
  kernels::tuning::RowPolicy policy;
  double median_us = 0;
  double p20_us = 0;
  double p80_us = 0;
  int replays = 0;
};

/// All that was measured for one problem.
struct SweptProblem {
  enum class Pass : std::uint8_t { forward, backward };

  std::size_t run = 0;  // that measured it, of the runs of the JSON
  Pass pass = Pass::forward;
  kernels::tuning::RowProblem problem;
  std::int64_t max_rows = 0;  // up to which the measurement stands, or kAnyRows
  std::int64_t bytes = 0;     // that a call moves at least
  int sets = 0;
  double copy_us = 0;                  // of a copy of as many bytes
  kernels::tuning::RowPolicy rule;     // what runs without a table
  std::vector<MeasuredPolicy> points;  // never empty

  /// The same entry of the table is measured by both.
  bool is_same_problem(const SweptProblem& other) const;
};

/// "{ring, 2, 256, 1, 3, 2}": variant, packs, block_threads, cluster, stages, blocks_per_sm.
std::string text_of(const kernels::tuning::RowPolicy& policy);

/// {"runs": [...], ..., "problems": [...]}, one line per run and problem. `runs` has what
/// run_record() says of each.
void write_json(std::ostream& to, const nlohmann::ordered_json& runs,
                const std::vector<SweptProblem>& problems);

/// Adds the runs and problems of a document that write_json() wrote. A problem that is there
/// already is replaced, its run stays. Throws Error when the document is not one of those.
void add_sweep(const nlohmann::ordered_json& document, nlohmann::ordered_json& runs,
               std::vector<SweptProblem>& problems);

/// The header with kForwardSm90 and kBackwardSm90. Neighbouring numbers of columns share an entry
/// when one policy is good for each: within 1 % of the best; where 8192 rows or more were
/// measured, of the least cost within 1.5 %. It names those of `runs` that measured `problems`.
/// Throws Error when forward or backward problems are missing.
void write_header(std::ostream& to, const nlohmann::ordered_json& runs,
                  const std::vector<SweptProblem>& problems);

}  // namespace lamina::bench
