// SPDX-License-Identifier: MIT
// Learning-rate schedules, evaluated on the device at each optimizer step.
#pragma once

#include "core/kernels/adamw.h"

namespace lamina::nn::schedule {

using kernels::Schedule;

/// `peak` after a linear warm-up of `warmup` steps.
inline Schedule constant(float peak, std::int64_t warmup = 0) {
  return {.kind = kernels::ScheduleKind::constant, .peak = peak, .floor = peak, .warmup = warmup};
}

/// Linear warm-up to `peak`, then linearly down to `floor` at step `total`.
inline Schedule linear(float peak, float floor, std::int64_t warmup, std::int64_t total) {
  return {kernels::ScheduleKind::linear, peak, floor, warmup, total};
}

/// Linear warm-up to `peak`, then half a cosine down to `floor` at step `total`.
inline Schedule cosine(float peak, float floor, std::int64_t warmup, std::int64_t total) {
  return {kernels::ScheduleKind::cosine, peak, floor, warmup, total};
}

}  // namespace lamina::nn::schedule
