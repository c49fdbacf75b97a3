// SPDX-License-Identifier: MIT
// Words of commands that are printed for people to paste into a shell.
#pragma once

#include <string>
#include <string_view>

namespace lamina::gpt {

/// A word as a POSIX shell reads it back: in single quotes where it has blanks, signs that mean
/// something there or nothing at all, else as it is.
std::string shell_quoted(std::string_view word);

}  // namespace lamina::gpt
