// SPDX-License-Identifier: MIT
#include "core/random.h"

#include "core/error.h"

#include <cmath>
#include <numbers>

namespace lamina {

namespace {

thread_local bool is_shifting = false;  // whether a ShiftScope is open

}  // namespace

PhiloxKey::operator PhiloxRegion() const {
  if (shift != nullptr) {
    throw Error(
        "random: the host uses a key of a step that is captured, expected kernels only; make "
        "random tensors before the capture");
  }
  return {seed, offset};
}

PhiloxKey Generator::next() {
  if (is_shifting && shift_ == nullptr) {
    throw Error(
        "random: a generator is used in a step that is captured, expected the default generator "
        "only (replays would draw the same numbers again)");
  }
  return {seed_, offset_++, shift_};
}

ShiftScope::ShiftScope(Generator& generator, const std::uint64_t* shift) : generator_(generator) {
  if (is_shifting) throw Error("random: a step is captured already, expected one at a time");
  generator_.shift_ = shift;
  is_shifting = true;
}

ShiftScope::~ShiftScope() {
  generator_.shift_ = nullptr;
  is_shifting = false;
}

Generator& default_generator() {
  thread_local Generator generator;
  return generator;
}

void seed(std::uint64_t value) {
  default_generator() = Generator(value);
}

double uniform_at(PhiloxRegion region, std::uint64_t i) {
  const PhiloxBlock block = philox_words(region, i / 2);
  const std::uint64_t word = i % 2 == 0 ? (std::uint64_t{block.x} << 32U) | block.y
                                        : (std::uint64_t{block.z} << 32U) | block.w;
  return static_cast<double>(word >> 11U) * 0x1.0p-53;
}

double normal_at(PhiloxRegion region, std::uint64_t i) {
  const double u =
      1.0 - uniform_at(region, i / 2 * 2);  // in (0, 1], so that the logarithm is finite
  const double angle = 2.0 * std::numbers::pi * uniform_at(region, i / 2 * 2 + 1);
  const double radius = std::sqrt(-2.0 * std::log(u));
  return radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

}  // namespace lamina
