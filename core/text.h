// SPDX-License-Identifier: MIT
// Text for messages: cat() joins values into a string; byte counts are printed as people read them.
#pragma once

#include <cstddef>
#include <sstream>
#include <string>

namespace lamina {

/// The parts, streamed one after the other into a string. For error and log texts, not for hot
/// paths.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream stream;
  (stream << ... << parts);
  return stream.str();
}

/// "512 B", "1.5 KiB", "2.50 GiB".
std::string bytes_text(std::size_t bytes);

}  // namespace lamina
