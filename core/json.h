// SPDX-License-Identifier: MIT
// JSON as strictly as files of models and tokenizers have to be read. For Lamina's own sources:
// programs that use Lamina need no nlohmann-json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace lamina {

/// Throws Error that begins with `what` when text is not JSON, or when an object has a name twice:
/// its value would not say which one was meant.
nlohmann::json parse_json(std::string_view text, std::string_view what);

}  // namespace lamina
