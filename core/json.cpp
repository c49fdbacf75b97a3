// SPDX-License-Identifier: MIT
#include "core/json.h"

#include "core/error.h"
#include "core/text.h"

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

namespace lamina {

nlohmann::json parse_json(std::string_view text, std::string_view what) {
  using Json = nlohmann::json;
  std::vector<std::set<std::string>> names;  // of the objects around
  std::string twice;
  const auto watch = [&](int /*depth*/, Json::parse_event_t event, const Json& value) {
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end) names.pop_back();
    if (event == Json::parse_event_t::key &&
        !names.back().insert(value.get<std::string>()).second) {
      twice = value.get<std::string>();
    }
    return true;
  };
  Json json = Json::parse(text, watch, /*allow_exceptions=*/false);
  if (json.is_discarded()) throw Error(cat(what, " is not JSON, expected that"));
  if (!twice.empty()) {
    constexpr std::size_t kMost = 60;  // a name may be a megabyte
    throw Error(cat(what, " has \"", twice.substr(0, kMost), twice.size() > kMost ? "..." : "",
                    "\" twice, expected once"));
  }
  return json;
}

}  // namespace lamina
