// SPDX-License-Identifier: MIT
// Contract: the next token of each sequence, drawn from the logits of a language model.
#pragma once

#include "core/random.h"
#include "core/stream.h"
#include "core/view.h"

#include <cmath>
#include <string_view>

namespace lamina::kernels {

/// A logit x of a token that the sequence has becomes x / repetition_penalty where it is positive,
/// else x * repetition_penalty (Keskar et al. 2019, https://arxiv.org/abs/1909.05858, section 4.1).
/// Tokens that are no class, below 0 or from `classes` on, have no logit and are passed over.
/// Then the token is drawn with probability proportional to exp(x / temperature) among the top_k
/// largest, and among those the fewest whose probabilities add up to top_p (Holtzman et al. 2019,
/// https://arxiv.org/abs/1904.09751, section 3.1); equal logits are in or out together.
/// The drawn one has the largest x / temperature + g with g = draw_noise() of the row and the token
/// (the Gumbel-max trick: Maddison et al. 2014, https://arxiv.org/abs/1411.0030, section 2).
/// Rows whose logits have a NaN, or a largest one that is not finite, get token 0 and a NaN as its
/// log-probability.
struct DrawTokens {
  static constexpr std::string_view kName = "draw_tokens";
  float temperature = 1.0F;  // 0: the largest logit, the first of equal ones
  std::int64_t top_k = 0;    // 0: all
  float top_p = 1.0F;        // 1: all
  float repetition_penalty = 1.0F;
  std::uint64_t seed = 0;
  Flat position;   // [1], i32, in: of the last token of each sequence
  Rows logits;     // [sequences, classes], in
  Rows tokens;     // [sequences, capacity], i32: 0 ... position[0] in, position[0] + 1 out
  Rows log_probs;  // [sequences, capacity], f32, out at position[0] + 1: of the token drawn, by the
                   // logits as they are
  Flat next;       // [sequences], i32, out: the tokens drawn
  Flat workspace{};  // u8, workspace_bytes() long

  Cost cost() const { return {.bytes = bytes_of(logits), .flops = 4 * logits.elements()}; }
};

/// The word of the random stream for one class: word class % 4 of block class / 4 of the row's
/// region, whose offset is the position of the new token and whose blocks begin at row * 2^32.
LAMINA_HOST_DEVICE constexpr std::uint64_t draw_block(std::int64_t row, std::int64_t quarter) {
  return (static_cast<std::uint64_t>(row) << 32U) + static_cast<std::uint64_t>(quarter);
}

/// A Gumbel variable from 32 random bits: -log(-log(u)) with u = 1 - (bits + 0.5) / 2^32, which
/// keeps its digits where u is near 1, the end that decides.
LAMINA_HOST_DEVICE inline float draw_noise(std::uint32_t bits) {
  const float below = (static_cast<float>(bits) + 0.5F) * 0x1p-32F;  // 1 - u; may round up to 1
  const float above = below < 1.0F ? 1.0F - below : 0x1p-24F;
  const float series = below * (1.0F + below * (0.5F + below * (1.0F / 3.0F)));  // -log(1 - below)
#if defined(__CUDA_ARCH__)
  return -__logf(below < 0x1p-7F ? series : -__logf(above));
#else
  return -std::log(below < 0x1p-7F ? series : -std::log(above));
#endif
}

/// The logit of a token that the sequence has.
LAMINA_HOST_DEVICE constexpr float penalised(float logit, float penalty) {
  return logit > 0.0F ? logit / penalty : logit * penalty;
}

void run(const DrawTokens& args, CpuStream stream);
void run(const DrawTokens& args, CudaStream stream);
std::int64_t workspace_bytes(const DrawTokens& args, CpuStream stream);
std::int64_t workspace_bytes(const DrawTokens& args, CudaStream stream);

}  // namespace lamina::kernels
