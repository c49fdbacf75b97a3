// SPDX-License-Identifier: MIT
// Profile: where the time of one training step went, by layer, direction and kernel, and the table
// of it. Plain numbers: core/kernel_times.h takes them, docs/profiling.md has the formulas.
#pragma once

#include "core/profile_scope.h"
#include "core/view.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace lamina {

/// What a device reaches: the denominators of percent of roofline. 0: not known.
struct Ceilings {
  double copy_gb_s = 0.0;       // 1e9 bytes per second, read plus written
  double matmul_tflop_s = 0.0;  // 1e12 FLOPs per second
  std::string dtype;            // of the products, e.g. "bf16"

  bool are_known() const { return copy_gb_s > 0.0 && matmul_tflop_s > 0.0; }
};

/// The calls of one kernel by one layer in one direction, in one step.
struct ProfileRow {
  std::string layer;  // path of the scope, "" outside of any
  Direction direction = Direction::forward;
  std::string kernel;
  double calls = 0.0;  // a mean over steps need not be whole
  double ms = 0.0;     // all calls together
  double bytes = 0.0, flops = 0.0;
  /// What the layer holds when the forward pass ends, beyond what it held when the step began: what
  /// it keeps for its backward pass. On the first row of the layer; 0 on its others.
  double live_bytes = 0.0;
};

struct Profile {
  std::int64_t step = 0;     // that was profiled, from 1; of a mean the last one
  std::int64_t samples = 1;  // steps that this is the mean of
  double step_ms = 0.0;      // of a step without the profile; NaN when there was none
  double profiled_ms = 0.0;  // of the profiled step
  double peak_bytes = 0.0;   // most that was live at once on the device, in the profiled step
  Ceilings ceilings;
  std::vector<ProfileRow> rows;  // in the order of their first call

  /// The sum of the rows, in ms.
  double named_ms() const;

  /// named_ms() as a share of step_ms: above 1 where the profile slows kernels down.
  double coverage() const { return named_ms() / step_ms; }

  /// What the profile adds to the step, as a share of step_ms.
  double overhead() const { return profiled_ms / step_ms - 1.0; }

  /// Adds the figures of another step, row by row; of memory the greatest counts, step and ceilings
  /// are taken over. A sum begins with samples = 0.
  void add(const Profile& more);

  /// Of a sum: the figures divided by `samples`.
  Profile mean() const;
};

/// The least time for a row on a device with these ceilings: that of its bytes or that of its
/// FLOPs, whichever is longer. In ms; 0 when they are not known.
double roofline_ms(const ProfileRow& row, const Ceilings& ceilings);

struct ProfileTableOptions {
  /// Levels of a path that rows are kept apart by; 0: all. At 2 "blocks.3.mlp.up" counts as
  /// "blocks.3.mlp": a number belongs to the name before it.
  int depth = 0;
  /// Layers whose paths differ in numbers only are one row, "blocks.*.mlp".
  bool fold = true;
};

/// The path that a layer's row has in the table.
std::string folded(const std::string& layer, const ProfileTableOptions& options);

/// Tables by layer, in the order of the model, and by kernel, longest first; below them step times,
/// coverage, overhead, peak memory and ceilings. Ends with a newline.
std::string table_of(const Profile& profile, const ProfileTableOptions& options = {});

}  // namespace lamina
