// SPDX-License-Identifier: MIT
// Counter-based random numbers: Philox4x32-10. The same counter and key give the same numbers on
// the CPU and on the GPU, in any order. Salmon et al. 2011, "Parallel random numbers: as easy as 1,
// 2, 3".
#pragma once

#include <array>
#include <cstdint>

#if defined(__CUDACC__)
#define LAMINA_HOST_DEVICE __host__ __device__
#else
#define LAMINA_HOST_DEVICE
#endif

namespace lamina {

struct PhiloxBlock {
  std::uint32_t x, y, z, w;
};

LAMINA_HOST_DEVICE constexpr PhiloxBlock philox_round(PhiloxBlock counter, std::uint32_t key_x,
                                                      std::uint32_t key_y) {
  const std::uint64_t a = std::uint64_t{0xD2511F53U} * counter.x;
  const std::uint64_t b = std::uint64_t{0xCD9E8D57U} * counter.z;
  return {static_cast<std::uint32_t>(b >> 32U) ^ counter.y ^ key_x, static_cast<std::uint32_t>(b),
          static_cast<std::uint32_t>(a >> 32U) ^ counter.w ^ key_y, static_cast<std::uint32_t>(a)};
}

/// Ten rounds of Philox4x32: four uniform 32-bit words for a 128-bit counter and a 64-bit key.
LAMINA_HOST_DEVICE constexpr PhiloxBlock philox_block(PhiloxBlock counter, std::uint32_t key_x,
                                                      std::uint32_t key_y) {
  for (int round = 0; round < 10; ++round) {
    counter = philox_round(counter, key_x, key_y);
    key_x += 0x9E3779B9U;
    key_y += 0xBB67AE85U;
  }
  return counter;
}

constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                              std::array<std::uint32_t, 2> key) {
  const PhiloxBlock block =
      philox_block({counter[0], counter[1], counter[2], counter[3]}, key[0], key[1]);
  return {block.x, block.y, block.z, block.w};
}

/// A region of the random stream: the blocks with key seed and counters (0, offset), (1, offset)
/// and so on.
struct PhiloxRegion {
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
};

/// What a kernel is given to find the region that is its own. In a captured step the same launch
/// runs again and again and needs another region each time: there `shift` is in device memory, and
/// what it holds when the kernel runs counts.
struct PhiloxKey {
  std::uint64_t seed = 0;
  std::uint64_t offset = 0;
  const std::uint64_t* shift = nullptr;  // added to offset; nullptr: 0

  /// For kernels, once at their beginning.
  LAMINA_HOST_DEVICE constexpr PhiloxRegion region() const {
    return {seed, shift != nullptr ? offset + *shift : offset};
  }

  /// For the host, which cannot read shift: throws Error when there is one.
  operator PhiloxRegion() const;  // NOLINT(google-explicit-constructor)
};

LAMINA_HOST_DEVICE constexpr PhiloxBlock philox_counter(std::uint64_t offset, std::uint64_t block) {
  return {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32U),
          static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(offset >> 32U)};
}

/// Block number `block` of the region.
LAMINA_HOST_DEVICE constexpr PhiloxBlock philox_words(PhiloxRegion region, std::uint64_t block) {
  return philox_block(philox_counter(region.offset, block), static_cast<std::uint32_t>(region.seed),
                      static_cast<std::uint32_t>(region.seed >> 32U));
}

/// The keys of the ten rounds of a seed. A kernel that reads them from its arguments does not add
/// them up for every block: 20 of about 65 instructions.
struct PhiloxRounds {
  std::uint32_t x[10]{}, y[10]{};

  constexpr explicit PhiloxRounds(std::uint64_t seed) {
    for (std::uint32_t round = 0; round < 10; ++round) {
      x[round] = static_cast<std::uint32_t>(seed) + round * 0x9E3779B9U;
      y[round] = static_cast<std::uint32_t>(seed >> 32U) + round * 0xBB67AE85U;
    }
  }

  /// philox_words() of the seed.
  LAMINA_HOST_DEVICE constexpr PhiloxBlock words(std::uint64_t offset, std::uint64_t block) const {
    PhiloxBlock counter = philox_counter(offset, block);
    for (int round = 0; round < 10; ++round)
      counter = philox_round(counter, x[round], y[round]);
    return counter;
  }
};

/// Dropout takes 16 random bits for an element, so that a block serves eight: element i of a region
/// has word i / 2 % 4 of block i / 8, its lower half if i is even and its upper half if i is odd,
/// and is dropped when that is below drop_threshold(p). This is p in units of 2^-16, rounded to
/// nearest: P(drop) = drop_threshold(p) / 2^16. With p < 2^-17 nothing is dropped; one of 2^16 is
/// kept however near p is to 1.
LAMINA_HOST_DEVICE constexpr std::uint32_t drop_threshold(float p) {
  const double units = static_cast<double>(p) * 65536.0 + 0.5;
  return units >= 65535.0 ? 65535U : static_cast<std::uint32_t>(units);
}

/// What kept elements are multiplied by: 1 / (1 - P(drop)) with the P(drop) of drop_threshold(p),
/// by which expectations are exact, and not with p itself.
LAMINA_HOST_DEVICE constexpr double keep_scale(float p) {
  return 65536.0 / (65536.0 - static_cast<double>(drop_threshold(p)));
}

/// Hands out disjoint regions of one random stream. Copying a Generator copies its position.
class Generator {
 public:
  explicit Generator(std::uint64_t seed = 1337) : seed_(seed) {}

  /// The next region; one per kernel launch. Throws Error while a step is captured, unless the
  /// capture moves this generator on.
  PhiloxKey next();

  /// Passes over `count` regions.
  void skip(std::uint64_t count) { offset_ += count; }

  std::uint64_t seed() const { return seed_; }

  std::uint64_t offset() const { return offset_; }

 private:
  friend class ShiftScope;

  std::uint64_t seed_;
  std::uint64_t offset_ = 0;
  const std::uint64_t* shift_ = nullptr;
};

/// This thread's generator: what layers initialise their parameters and drop activations with,
/// unless they are given another.
Generator& default_generator();

/// Restarts this thread's default generator.
void seed(std::uint64_t value);

/// Until destruction, keys of `generator` are shifted by what `shift`, in device memory, holds when
/// they are used, and this thread's other generators throw: for the capture of a step.
class ShiftScope {
 public:
  ShiftScope(Generator& generator, const std::uint64_t* shift);
  ~ShiftScope();
  ShiftScope(const ShiftScope&) = delete;
  ShiftScope& operator=(const ShiftScope&) = delete;

 private:
  Generator& generator_;
};

/// Element i of a region as a uniform number in [0, 1), and as a standard normal (Box-Muller).
double uniform_at(PhiloxRegion region, std::uint64_t i);
double normal_at(PhiloxRegion region, std::uint64_t i);

}  // namespace lamina
