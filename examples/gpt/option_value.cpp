// SPDX-License-Identifier: MIT
#include "examples/gpt/option_value.h"

#include "core/text.h"
#include "examples/gpt/suggestion.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <variant>
#include <vector>

namespace lamina::gpt {

namespace {

using List = std::vector<std::string> Options::*;

template <class T>
T parse_number(const Spec& spec, const std::string& text) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const auto number = static_cast<double>(value);
  const bool is_low = spec.above_least ? !(number > spec.least) : !(number >= spec.least);
  if (error != std::errc() || stop != end || is_low || !(number <= spec.most)) {
    throw UsageError(cat("--", spec.name, " is ", text.empty() ? "empty" : text, ", expected ",
                         std::is_integral_v<T> ? "an integer" : "a number",
                         spec.above_least ? " above " : " from ", spec.least, " to ", spec.most,
                         " (", spec.help, ")"));
  }
  return value;
}

bool parse_switch(const Spec& spec, const std::string& text) {
  if (text == "true" || text == "false") return text == "true";
  throw UsageError(
      cat("--", spec.name, " is ", text.empty() ? "empty" : text, ", expected true or false"));
}

bool names_path(const Spec& spec) {
  return spec.name == "out" || spec.name == "config" || spec.name == "text" ||
         spec.name == "gemm-plans" || spec.name == "trace" || spec.name == "memory" ||
         spec.name == "tokenizer" || spec.name == "from" || spec.name == "data";
}

/// One of the choices; of a list the first one, or some of the others with commas between.
void expect_choice(const Spec& spec, const std::string& text) {
  const auto& choices = spec.choices;
  if (choices.empty() || text == choices.front()) return;
  const auto first = choices.begin() + (spec.is_list ? 1 : 0);
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end =
        spec.is_list ? std::min(text.find(',', begin), text.size()) : text.size();
    const std::string_view word = std::string_view(text).substr(begin, end - begin);
    if (std::find(first, choices.end(), word) == choices.end()) {
      std::string all;
      for (auto choice = first; choice != choices.end(); ++choice)
        all += cat(all.empty() ? "" : ", ", *choice);
      const std::string expected =
          spec.is_list ? cat(choices.front(), " or some of ", all, " with commas between")
                       : cat("one of ", all);
      throw UsageError(cat("--", spec.name, " is ", text.empty() ? "empty" : text, ", expected ",
                           expected, word == choices.front() ? "" : suggestion(word, choices)));
    }
    begin = end + 1;
  }
}

}  // namespace

bool takes_several(const Spec& spec) {
  return std::holds_alternative<List>(spec.member);
}

void clear_list(const Spec& spec, Options& options) {
  if (const auto* list = std::get_if<List>(&spec.member)) (options.**list).clear();
}

void assign(const Spec& spec, const std::string& text, Options& options) {
  if (text.empty() && names_path(spec)) {
    throw UsageError(cat("--", spec.name, " is empty, expected a path (", spec.help, ")"));
  }
  if (const auto* field = std::get_if<std::int64_t Options::*>(&spec.member)) {
    options.** field = parse_number<std::int64_t>(spec, text);
  } else if (const auto* real = std::get_if<double Options::*>(&spec.member)) {
    options.** real = parse_number<double>(spec, text);
  } else if (const auto* flag = std::get_if<bool Options::*>(&spec.member)) {
    options.** flag = parse_switch(spec, text);
  } else if (const auto* list = std::get_if<List>(&spec.member)) {
    (options.**list).push_back(text);
  } else {
    expect_choice(spec, text);
    options.*std::get<std::string Options::*>(spec.member) = text;
  }
}

}  // namespace lamina::gpt
