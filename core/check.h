// SPDX-License-Identifier: MIT
// LAMINA_CHECK: an internal condition with a message that is built only on failure.
// Mistakes of users are reported by the expect_*() functions of core/expect.h instead.
#pragma once

#include "core/error.h"
#include "core/text.h"

/// Throws lamina::Error with the parts joined, file and line, when `condition` is false.
#define LAMINA_CHECK(condition, ...)                                                           \
  do {                                                                                         \
    if (!(condition)) [[unlikely]] {                                                           \
      throw ::lamina::Error(                                                                   \
          ::lamina::cat(__VA_ARGS__, " [", #condition, " at ", __FILE__, ":", __LINE__, "]")); \
    }                                                                                          \
  } while (false)
