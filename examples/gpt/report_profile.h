// SPDX-License-Identifier: MIT
// The arithmetic of the report's profile: kernels added up to layers, equal layers of the blocks
// added up, and how far each is from what the machine can do.
#pragma once

#include "core/profile.h"

#include <array>
#include <cstddef>
#include <string>
#include <vector>

namespace lamina::gpt {

struct WorkDone {
  double ms = 0.0, bytes = 0.0, flops = 0.0, calls = 0.0;

  WorkDone& operator+=(const WorkDone& other);
};

struct LayerWork {
  std::string layer;
  std::size_t layers = 1;              // how many were added up
  std::array<WorkDone, 2> directions;  // forward, backward

  const WorkDone& forward() const { return directions[0]; }

  const WorkDone& backward() const { return directions[1]; }

  double ms() const { return forward().ms + backward().ms; }
};

/// Kernels added up by layer and direction, the slowest layer first. What is not finite counts as
/// 0.
std::vector<LayerWork> work_by_layer(const Profile& profile);

/// Layers whose names differ in numbers only added up, the slowest first: "blocks.3.mlp.up" counts
/// to "blocks.*.mlp.up".
std::vector<LayerWork> fold(const std::vector<LayerWork>& layers);

/// The fraction of the device's matrix products that training at `rate` tokens/s reaches. NaN where
/// one of the three is not known.
double mfu(double rate, double flops_per_token, double matmul_tflop_s);

/// The section "Where the step goes" and the roofline, as HTML.
std::string profile_sections(const std::vector<Profile>& profile);

}  // namespace lamina::gpt
