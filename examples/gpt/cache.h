// SPDX-License-Identifier: MIT
// What runs of one user share: files in the user's cache directory.
#pragma once

#include <filesystem>
#include <string>

namespace lamina::gpt {

/// $XDG_CACHE_HOME/lamina or ~/.cache/lamina; empty without a home.
std::filesystem::path cache_directory();

/// The bytes of a file; "" when it cannot be read.
std::string text_of(const std::filesystem::path& path);

/// Writes a whole file through one beside it, so that no reader sees half of it. Makes its
/// directory. Throws Error with the path.
void replace_file(const std::filesystem::path& path, const std::string& text);

}  // namespace lamina::gpt
