// SPDX-License-Identifier: MIT
// The value of an option of lamina-gpt: from its text into Options. For options.cpp only.
#pragma once

#include "examples/gpt/options_table.h"

#include <string>

namespace lamina::gpt {

/// Whether the option may be given more than once, or as a list in a --config file.
bool takes_several(const Spec& spec);

/// Empties the list of such an option.
void clear_list(const Spec& spec, Options& options);

/// Takes a value over, of a list one more. Throws UsageError when it is not one that the option
/// has.
void assign(const Spec& spec, const std::string& text, Options& options);

}  // namespace lamina::gpt
