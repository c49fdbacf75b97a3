// SPDX-License-Identifier: MIT
#include "examples/gpt/suggestion.h"

#include "core/text.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace lamina::gpt {

std::string_view closest(std::string_view word, std::span<const std::string_view> candidates) {
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
  for (const std::string_view candidate : candidates) {
    // Edit distance, one row of the table at a time.
    std::vector<std::size_t> row(candidate.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = std::exchange(row[0], i);
      for (std::size_t j = 1; j <= candidate.size(); ++j) {
        const std::size_t change = diagonal + (word[i - 1] == candidate[j - 1] ? 0 : 1);
        diagonal = row[j];
        row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
      }
    }
    const bool is_start = word.size() >= 3 && candidate.starts_with(word);
    const std::size_t distance = is_start ? 1 : row.back();
    if (distance < best_distance && distance < candidate.size()) {
      best = candidate;
      best_distance = distance;
    }
  }
  if (!best.empty() || word.find('-') == std::string_view::npos) return best;
  const auto begins_alike = [&](std::string_view candidate) {
    return candidate.starts_with(word.substr(0, word.find('-') + 1));
  };
  const auto first = std::find_if(candidates.begin(), candidates.end(), begins_alike);
  const bool is_one = std::count_if(candidates.begin(), candidates.end(), begins_alike) == 1;
  return is_one ? *first : best;
}

std::string suggestion(std::string_view word, std::span<const std::string_view> candidates,
                       std::string_view prefix) {
  const std::string_view meant = closest(word, candidates);
  return meant.empty() ? "" : cat("; did you mean ", prefix, meant);
}

}  // namespace lamina::gpt
