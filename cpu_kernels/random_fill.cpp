// SPDX-License-Identifier: MIT
// Compiled without contraction: the numbers must not depend on whether the machine has FMA.
#include "core/kernels/random_fill.h"

#include "cpu_kernels/parallel.h"

#include <cmath>
#include <numbers>

namespace lamina::kernels {
namespace {

struct Pair {
  double even, odd;
};

/// Elements 2 k and 2 k + 1, which one Philox block and one radius make: uniform_at() and
/// normal_at() for both.
Pair pair_at(const RandomFill& args, std::uint64_t k) {
  const double first = uniform_at(args.region, 2 * k), second = uniform_at(args.region, 2 * k + 1);
  if (args.kind == RandomKind::uniform) return {first, second};
  const double radius = std::sqrt(-2.0 * std::log(1.0 - first));
  const double angle = 2.0 * std::numbers::pi * second;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

}  // namespace

void run(const RandomFill& args, CpuStream) {
  static_assert(cpu::kChunkWork % 2 == 0);  // so that a pair is in one piece
  dispatch_float(args.y.dtype, RandomFill::kName, [&]<class T>() {
    T* const y = args.y.as<T>();
    const std::int64_t size = args.y.size;
    cpu::parallel_segments(1, size, [&](std::int64_t, std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; i += 2) {
        const Pair pair = pair_at(args, static_cast<std::uint64_t>(i / 2));
        y[i] = static_cast<T>(args.shift + args.scale * pair.even);
        if (i + 1 < end) y[i + 1] = static_cast<T>(args.shift + args.scale * pair.odd);
      }
    });
  });
}

}  // namespace lamina::kernels
