// SPDX-License-Identifier: MIT
// "did you mean ...": the word that was probably meant.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace lamina::gpt {

/// The word of `candidates` that was probably meant: one that differs in a few letters, goes on
/// where `word` ends, or alone begins like it, up to the first '-'. "" when there is none.
std::string_view closest(std::string_view word, std::span<const std::string_view> candidates);

/// "; did you mean X" or "".
std::string suggestion(std::string_view word, std::span<const std::string_view> candidates,
                       std::string_view prefix = "");

}  // namespace lamina::gpt
