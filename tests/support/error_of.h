// SPDX-License-Identifier: MIT
// The text of the Error that a call throws.
#pragma once

#include "core/error.h"

#include <string>

namespace lamina::testing {

/// "no error" when there is none.
template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace lamina::testing
