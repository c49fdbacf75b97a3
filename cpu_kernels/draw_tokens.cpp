// SPDX-License-Identifier: MIT
#include "core/kernels/draw_tokens.h"

#include "cpu_kernels/parallel.h"

#include <algorithm>
#include <functional>
#include <limits>

namespace lamina::kernels {
namespace {

/// log(sum(exp(logits))), which is not finite where the largest is not or one is NaN.
double log_sum_exp(const float* logits, std::int64_t classes) {
  const auto largest = static_cast<double>(*std::max_element(logits, logits + classes));
  double sum = 0.0;
  for (std::int64_t c = 0; c < classes; ++c)
    sum += std::exp(static_cast<double>(logits[c]) - largest);
  return largest + std::log(sum);
}

/// The least score that takes part. `sorted` has room for all of them.
float least_score(const DrawTokens& args, const float* scores, float* sorted) {
  const std::int64_t classes = args.logits.cols;
  const bool has_k = args.top_k > 0 && args.top_k < classes;
  if (!has_k && args.top_p >= 1.0F) return -std::numeric_limits<float>::infinity();
  std::copy_n(scores, classes, sorted);
  std::sort(sorted, sorted + classes, std::greater<>());
  std::int64_t count = has_k ? args.top_k : classes;
  while (count < classes && sorted[count] == sorted[count - 1])
    ++count;
  if (args.top_p >= 1.0F) return sorted[count - 1];
  const auto weight = [&](std::int64_t i) {
    return std::exp((static_cast<double>(sorted[i]) - static_cast<double>(sorted[0])) /
                    static_cast<double>(args.temperature));
  };
  double total = 0.0;
  for (std::int64_t i = 0; i < count; ++i)
    total += weight(i);
  std::int64_t last = 0;
  double sum = weight(0);
  while (last + 1 < count && sum < static_cast<double>(args.top_p) * total)
    sum += weight(++last);
  return sorted[last];
}

/// The class with the largest score after the noise; the first of equal ones.
std::int64_t draw_class(const DrawTokens& args, std::int64_t row, std::int64_t offset,
                        const float* scores, float least) {
  const PhiloxRegion region{args.seed, static_cast<std::uint64_t>(offset)};
  PhiloxBlock words{};
  float best_value = -std::numeric_limits<float>::infinity();
  std::int64_t best = -1;
  for (std::int64_t c = 0; c < args.logits.cols; ++c) {
    if (c % 4 == 0) words = philox_words(region, draw_block(row, c / 4));
    const std::uint32_t of_class[] = {words.x, words.y, words.z, words.w};
    const float value = scores[c] / args.temperature + draw_noise(of_class[c % 4]);
    if (scores[c] < least || (best >= 0 && value <= best_value)) continue;
    best = c;
    best_value = value;
  }
  return best;
}

void draw(const DrawTokens& args, std::int64_t row, std::int32_t position, float* logits) {
  const std::int64_t classes = args.logits.cols;
  float* const scores = logits + classes;
  float* const sorted = scores + classes;
  auto* const tokens = cpu::row_of<std::int32_t>(args.tokens, row);
  dispatch_float(args.logits.dtype, args.kName, [&]<class T>() {
    const T* const from = cpu::row_of<const T>(args.logits, row);
    std::transform(from, from + classes, logits, [](T x) { return static_cast<float>(x); });
  });
  std::copy_n(logits, classes, scores);
  if (args.repetition_penalty != 1.0F) {
    for (std::int32_t t = 0; t <= position; ++t) {
      const std::int32_t token = tokens[t];
      if (token < 0 || token >= classes) continue;
      scores[token] = penalised(logits[token], args.repetition_penalty);
    }
  }
  const double sum = log_sum_exp(logits, classes);
  std::int64_t drawn = 0;
  if (std::isfinite(sum)) {
    drawn = args.temperature == 0.0F
                ? std::max_element(scores, scores + classes) - scores
                : draw_class(args, row, position + 1, scores, least_score(args, scores, sorted));
  }
  tokens[position + 1] = static_cast<std::int32_t>(drawn);
  args.next.as<std::int32_t>()[row] = static_cast<std::int32_t>(drawn);
  cpu::row_of<float>(args.log_probs, row)[position + 1] =
      std::isfinite(sum) ? static_cast<float>(static_cast<double>(logits[drawn]) - sum)
                         : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace

void run(const DrawTokens& args, CpuStream) {
  const std::int32_t position = *args.position.as<const std::int32_t>();
  const std::int64_t classes = args.logits.cols;
  cpu::parallel_rows(args.logits.rows, 16 * classes, [&](std::int64_t row) {
    draw(args, row, position, args.workspace.as<float>() + row * 3 * classes);
  });
}

std::int64_t workspace_bytes(const DrawTokens& args, CpuStream) {
  return 3 * args.logits.elements() * static_cast<std::int64_t>(sizeof(float));
}

}  // namespace lamina::kernels
