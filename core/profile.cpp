// SPDX-License-Identifier: MIT
#include "core/profile.h"

#include "core/text.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <string_view>
#include <utility>

namespace lamina {

namespace {

// Plain text of a number: some digits after the point.
std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return "-";
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%.*f", digits, value);
  return text.data();
}

/// "98.2%", or "-" where there is nothing to compare with.
std::string percent(double share, int digits = 1) {
  return std::isfinite(share) ? fixed(100.0 * share, digits) + "%" : "-";
}

/// "4312", "78.4", "0.65".
std::string three_digits(double value) {
  return fixed(value, value >= 100.0 ? 0 : value >= 10.0 ? 1 : 2);
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// One line of a table: rows of the profile added up.
struct Line {
  std::string name;
  double forward_ms = 0.0, backward_ms = 0.0, floor_ms = 0.0;
  double calls = 0.0, bytes = 0.0, flops = 0.0, live_bytes = 0.0;

  double ms() const { return forward_ms + backward_ms; }

  void add(const ProfileRow& row, const Ceilings& ceilings) {
    (row.direction == Direction::forward ? forward_ms : backward_ms) += row.ms;
    floor_ms += roofline_ms(row, ceilings);
    calls += row.calls;
    bytes += row.bytes;
    flops += row.flops;
    live_bytes += row.live_bytes;
  }
};

/// A line per name, in order of appearance.
template <class NameOf>
std::vector<Line> lines_of(const Profile& profile, const NameOf& name_of) {
  std::vector<Line> lines;
  for (const ProfileRow& row : profile.rows) {
    const std::string name = name_of(row);
    auto line = std::find_if(lines.begin(), lines.end(),
                             [&](const Line& known) { return known.name == name; });
    if (line == lines.end()) line = lines.insert(line, Line{.name = name});
    line->add(row, profile.ceilings);
  }
  return lines;
}

/// The rate against the limit that binds: "3790 GB/s" or "612 TFLOP/s". Without ceilings GB/s.
std::string rate_of(const Line& line, const Ceilings& ceilings) {
  if (!(line.ms() > 0.0)) return "-";
  const double gb_s = line.bytes / line.ms() * 1e-6;
  const double gflop_s = line.flops / line.ms() * 1e-6;
  const bool is_bound_by_flops =
      ceilings.are_known() && gflop_s / (1e3 * ceilings.matmul_tflop_s) > gb_s / ceilings.copy_gb_s;
  if (!is_bound_by_flops) return three_digits(gb_s) + " GB/s";
  return gflop_s >= 1e3 ? three_digits(gflop_s * 1e-3) + " TFLOP/s"
                        : three_digits(gflop_s) + " GFLOP/s";
}

using Cells = std::vector<std::string>;

Cells cells_of(const Line& line, const Profile& profile) {
  const double limit = line.floor_ms > 0.0 && line.ms() > 0.0
                           ? line.floor_ms / line.ms()
                           : std::nan("");  // no ceilings, or nothing to do
  return {line.name,
          fixed(line.forward_ms, 3),
          fixed(line.backward_ms, 3),
          percent(line.ms() / profile.step_ms),
          rate_of(line, profile.ceilings),
          percent(limit, 0),
          fixed(line.calls, line.calls == std::floor(line.calls) ? 0 : 1),
          line.live_bytes > 0.0 ? bytes_text(static_cast<std::size_t>(line.live_bytes)) : ""};
}

/// Columns as wide as their longest cell; the first to the left, the others to the right.
std::string text_of(const std::vector<Cells>& rows) {
  std::vector<std::size_t> widths(rows.front().size());
  for (const Cells& cells : rows) {
    for (std::size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], cells[i].size());
  }
  std::string text;
  for (const Cells& cells : rows) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string space(widths[i] - cells[i].size(), ' ');
      line += i == 0 ? cells[i] + space : "  " + space + cells[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  return text;
}

std::string table_of_lines(const char* title, const std::vector<Line>& lines,
                           const Profile& profile, bool has_memory) {
  std::vector<Cells> rows = {
      {title, "forward ms", "backward ms", "share", "rate", "of limit", "launches", "kept"}};
  for (const Line& line : lines)
    rows.push_back(cells_of(line, profile));
  if (!has_memory) {
    for (Cells& cells : rows)
      cells.pop_back();
  }
  return text_of(rows);
}

std::string summary_of(const Profile& profile) {
  const bool has_step = std::isfinite(profile.step_ms);
  std::string text = cat("step ", fixed(profile.profiled_ms, 3), " ms with the profile, ");
  text += has_step ? cat(fixed(profile.step_ms, 3), " ms without: overhead ",
                         percent(profile.overhead(), 2))
                   : "not measured without";
  text += cat("\nnamed kernels ", fixed(profile.named_ms(), 3), " ms");
  if (has_step) text += cat(": coverage ", percent(profile.coverage()));
  text += cat("\nmemory at most ", bytes_text(static_cast<std::size_t>(profile.peak_bytes)));
  const Ceilings& limits = profile.ceilings;
  if (limits.are_known()) {
    text += cat(
        "; limits: copy ", three_digits(limits.copy_gb_s), " GB/s, ", limits.dtype, " products ",
        limits.matmul_tflop_s >= 1.0 ? three_digits(limits.matmul_tflop_s) + " TFLOP/s"
                                     : three_digits(1e3 * limits.matmul_tflop_s) + " GFLOP/s");
  }
  return text + '\n';
}

}  // namespace

double Profile::named_ms() const {
  double sum = 0.0;
  for (const ProfileRow& row : rows)
    sum += row.ms;
  return sum;
}

double roofline_ms(const ProfileRow& row, const Ceilings& ceilings) {
  if (!ceilings.are_known()) return 0.0;
  return std::max(row.bytes / ceilings.copy_gb_s * 1e-6,
                  row.flops / ceilings.matmul_tflop_s * 1e-9);
}

void Profile::add(const Profile& more) {
  step = more.step;
  samples += more.samples;
  step_ms += more.step_ms;
  profiled_ms += more.profiled_ms;
  peak_bytes = std::max(peak_bytes, more.peak_bytes);
  ceilings = more.ceilings;
  const auto is_same = [](const ProfileRow& a, const ProfileRow& b) {
    return a.layer == b.layer && a.direction == b.direction && a.kernel == b.kernel;
  };
  for (std::size_t i = 0; i < more.rows.size(); ++i) {
    const ProfileRow& row = more.rows[i];
    auto known = rows.begin() + static_cast<std::ptrdiff_t>(std::min(i, rows.size()));
    if (known == rows.end() || !is_same(*known, row)) {  // another order than the step before
      known = std::find_if(rows.begin(), rows.end(),
                           [&](const ProfileRow& other) { return is_same(other, row); });
    }
    if (known == rows.end()) {
      rows.push_back(row);
      continue;
    }
    known->calls += row.calls;
    known->ms += row.ms;
    known->bytes += row.bytes;
    known->flops += row.flops;
    known->live_bytes = std::max(known->live_bytes, row.live_bytes);
  }
}

Profile Profile::mean() const {
  Profile mean = *this;
  const auto count = static_cast<double>(samples);
  mean.step_ms /= count;
  mean.profiled_ms /= count;
  for (ProfileRow& row : mean.rows) {
    row.calls /= count;
    row.ms /= count;
    row.bytes /= count;
    row.flops /= count;
  }
  return mean;
}

std::string folded(const std::string& layer, const ProfileTableOptions& options) {
  std::string result;
  int level = 0;
  for (std::size_t begin = 0; begin < layer.size();) {
    const std::size_t end = std::min(layer.find('.', begin), layer.size());
    const std::string part = layer.substr(begin, end - begin);
    const bool counts = !is_number(part);
    if (counts && options.depth > 0 && ++level > options.depth) break;
    result += (result.empty() ? "" : ".") + (counts || !options.fold ? part : "*");
    begin = end + 1;
  }
  return result.empty() ? "-" : result;
}

std::string table_of(const Profile& profile, const ProfileTableOptions& options) {
  const std::vector<Line> layers =
      lines_of(profile, [&](const ProfileRow& row) { return folded(row.layer, options); });
  std::vector<Line> kernels = lines_of(profile, [](const ProfileRow& row) { return row.kernel; });
  std::stable_sort(kernels.begin(), kernels.end(),
                   [](const Line& a, const Line& b) { return a.ms() > b.ms(); });
  const std::string title = profile.samples > 1
                                ? cat("profile, mean of ", profile.samples, " steps up to step ",
                                      profile.step, ", per step\n")
                                : cat("profile of step ", profile.step, "\n");
  return title + table_of_lines("layer", layers, profile, true) + '\n' +
         table_of_lines("kernel", kernels, profile, false) + '\n' + summary_of(profile);
}

}  // namespace lamina
