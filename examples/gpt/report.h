// SPDX-License-Identifier: MIT
// lamina-gpt report: a run directory as one HTML file that needs no network, script or other file.
#pragma once

#include "examples/gpt/live_line.h"
#include "examples/gpt/options.h"
#include "examples/gpt/report_run.h"

#include <string>

namespace lamina::gpt {

/// The page. What the run does not have is named in its place. At most 400 points to a curve and
/// 100,000 bytes of samples, and says so where it leaves something out.
std::string report_html(const RunRecord& run);

/// Writes the report of options.run to options.out, or to report.html in the run directory. Returns
/// 0. Throws UsageError or Error.
int report(const Options& options, Console& console);

}  // namespace lamina::gpt
