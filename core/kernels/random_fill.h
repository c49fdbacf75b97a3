// SPDX-License-Identifier: MIT
// Contract: random numbers for new tensors. On the host only: the numbers are made in double, so
// that they are the same whatever the device, and copied from there.
#pragma once

#include "core/random.h"
#include "core/stream.h"
#include "core/view.h"

#include <string_view>

namespace lamina::kernels {

enum class RandomKind : std::uint8_t { uniform, normal };

/// y[i] = low + (high - low) * uniform_at(region, i), or mean + deviation * normal_at(region, i);
/// computed in double, then rounded.
struct RandomFill {
  static constexpr std::string_view kName = "random_fill";
  Flat y;  // [n], f32 or f64, out
  PhiloxRegion region;
  RandomKind kind = RandomKind::normal;
  double shift = 0.0;  // low or mean
  double scale = 1.0;  // high - low or deviation

  Cost cost() const { return {.bytes = bytes_of(y)}; }
};

void run(const RandomFill& args, CpuStream stream);

}  // namespace lamina::kernels
