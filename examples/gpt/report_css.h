// SPDX-License-Identifier: MIT
#pragma once

namespace lamina::gpt {

/// The text of report.css; the build makes the definition from that file.
extern const char* const kReportCss;

}  // namespace lamina::gpt
