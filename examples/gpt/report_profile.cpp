// SPDX-License-Identifier: MIT
#include "examples/gpt/report_profile.h"

#include "core/text.h"
#include "examples/gpt/live_line.h"
#include "examples/gpt/report_page.h"
#include "examples/gpt/report_plot.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace lamina::gpt {

namespace {

constexpr std::size_t kMostBars = 24;
constexpr std::size_t kMostTableRows = 400;
constexpr std::size_t kNumberedDots = 8;
constexpr std::array<const char*, 2> kDirections = {"forward", "backward"};

std::string percent_text(double part, double whole) {
  return whole > 0.0 && std::isfinite(part / whole) ? fixed(100.0 * part / whole, 1) + "%" : "–";
}

std::string ms_text(double ms) {
  return cat(number_text(ms, 3), " ms");
}

std::vector<LayerWork> slowest_first(const std::map<std::string, LayerWork>& layers) {
  std::vector<LayerWork> sorted;
  for (const auto& [name, work] : layers)
    sorted.push_back(work);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const LayerWork& a, const LayerWork& b) { return a.ms() > b.ms(); });
  return sorted;
}

std::string shown_name(const LayerWork& work) {
  return work.layers > 1 ? cat(work.layer, "  × ", work.layers) : work.layer;
}

std::string percent_of_roofline(const WorkDone& work, const Profile& profile) {
  if (!profile.ceilings.are_known()) return "–";
  const ProfileRow row{.bytes = work.bytes, .flops = work.flops};
  return percent_text(roofline_ms(row, profile.ceilings), work.ms);
}

Table layer_table(const std::string& caption, const std::vector<LayerWork>& layers,
                  const Profile& profile) {
  Table table{.caption = caption,
              .header = {"layer", "forward ms", "backward ms", "share", "GB/s", "TFLOP/s",
                         "of roofline", "launches"},
              .rows = {}};
  for (const LayerWork& layer : layers) {
    if (table.rows.size() == kMostTableRows) break;
    WorkDone both = layer.forward();
    both += layer.backward();
    const auto rate = [&](double amount, double unit) {
      return both.ms > 0.0 ? number_text(amount / both.ms * 1e3 / unit, 3) : "–";
    };
    table.rows.push_back({shown_name(layer), fixed(layer.forward().ms, 3),
                          fixed(layer.backward().ms, 3), percent_text(both.ms, profile.step_ms),
                          rate(both.bytes, 1e9), rate(both.flops, 1e12),
                          percent_of_roofline(both, profile), number_text(both.calls, 12)});
  }
  if (layers.size() > kMostTableRows) {
    table.caption += cat(", the slowest ", kMostTableRows, " of ", layers.size());
  }
  return table;
}

std::string step_section(const Profile& profile, const std::vector<LayerWork>& layers,
                         std::size_t samples) {
  const std::vector<LayerWork> groups = fold(layers);
  BarPlot plot{.text = {.id = "step-plot",
                        .title = "Time of a step by layer, forward and backward",
                        .description = "Horizontal bars, the slowest layer first.",
                        .x_label = "",
                        .y_label = ""},
               .bars = {}};
  double sum = 0.0;
  LayerWork others{.layer = "", .layers = 0, .directions = {}};
  for (const LayerWork& group : groups) {
    sum += group.ms();
    if (plot.bars.size() + 1 >= kMostBars && groups.size() > kMostBars) {
      for (std::size_t i = 0; i < 2; ++i)
        others.directions[i] += group.directions[i];
      ++others.layers;
      others.layer = cat(others.layers, " other layers");
      continue;
    }
    plot.bars.push_back({shown_name(group), "", {}});
  }
  // The bars of the groups, now that it is known which are shown.
  const auto fill = [&](Bar& bar, const LayerWork& work) {
    bar.value = cat(ms_text(work.ms()), ", ", percent_text(work.ms(), profile.step_ms));
    for (std::size_t i = 0; i < 2; ++i) {
      bar.segments.push_back({work.directions[i].ms, kDirections[i],
                              cat(kDirections[i], " ", ms_text(work.directions[i].ms))});
    }
  };
  for (std::size_t i = 0; i < plot.bars.size(); ++i)
    fill(plot.bars[i], groups[i]);
  if (others.layers > 0) fill(plot.bars.emplace_back(Bar{others.layer, "", {}}), others);

  std::string text = cat("Sampled at step ", profile.step, ", the last of ", samples,
                         samples == 1 ? " sample. " : " samples. ");
  if (std::isfinite(profile.step_ms)) {
    text += cat("A step without instrumentation takes ", ms_text(profile.step_ms),
                " (median since the sample before)");
    if (profile.profiled_ms > 0.0) {
      text += cat(", the sampled one took ", ms_text(profile.profiled_ms));
    }
    text += cat(". Named layers account for ", percent_text(profile.named_ms(), profile.step_ms),
                " of the former. ");
  }
  text += cat("All rows add up to ", ms_text(sum), ".");
  const std::string legend =
      "<ul class='legend'><li><span class='key forward'></span>forward</li>"
      "<li><span class='key backward'></span>backward</li></ul>\n";
  return section("step", "Where the step goes",
                 paragraph(text) +
                     figure(legend + svg(plot),
                            "Layers that differ in their number only are added up (× how many); "
                            "kernels outside of layers are in parentheses. Shares are of the step "
                            "without instrumentation.",
                            layer_table("time by layer, equal layers added up", groups, profile)) +
                     folded_table(layer_table("time by layer, one by one", layers, profile)));
}

/// In FLOP per byte and FLOP/s.
Point place_of(const WorkDone& work) {
  return {work.flops / work.bytes, work.flops / work.ms * 1e3};
}

std::string roofline_section(const Profile& profile, const std::vector<LayerWork>& layers) {
  const std::string title = "Roofline";
  if (!profile.ceilings.are_known()) {
    return section("roofline", title,
                   paragraph("Not drawn: the profile has no measured ceilings of this device."));
  }
  Roofline plot{.text = {.id = "roofline-plot",
                         .title = "Roofline: speed of each layer over its arithmetic intensity",
                         .description = "",
                         .x_label = "FLOP per byte",
                         .y_label = "FLOP/s"},
                .dots = {},
                .bytes_per_second = profile.ceilings.copy_gb_s * 1e9,
                .flops_per_second = profile.ceilings.matmul_tflop_s * 1e12};
  const auto has_place = [](const WorkDone& work) {
    return work.ms > 0.0 && work.bytes > 0.0 && work.flops > 0.0;
  };
  std::size_t without = 0;
  for (const LayerWork& layer : layers) {
    for (std::size_t i = 0; i < 2; ++i) {
      const WorkDone& work = layer.directions[i];
      if (!has_place(work)) {
        without += work.ms > 0.0 ? 1 : 0;
        continue;
      }
      plot.dots.push_back({place_of(work),
                           cat(layer.layer, " ", kDirections[i], ", ", ms_text(work.ms)),
                           kDirections[i], ""});
    }
  }

  struct Entry {
    const LayerWork* group;
    std::size_t direction;

    const WorkDone& work() const { return group->directions[direction]; }
  };

  const std::vector<LayerWork> groups = fold(layers);
  std::vector<Entry> entries;
  for (const LayerWork& group : groups) {
    for (std::size_t i = 0; i < 2; ++i) {
      if (has_place(group.directions[i])) entries.push_back({&group, i});
    }
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.work().ms > b.work().ms; });
  Table table{.caption = "roofline, equal layers added up",
              .header = {"layer", "dot", "direction", "ms", "FLOP per byte", "FLOP/s", "GB/s",
                         "of roofline"},
              .rows = {},
              .text_columns = 3};
  std::vector<Dot> numbered;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    const Entry& entry = entries[i];
    const WorkDone& work = entry.work();
    const Point at = place_of(work);
    const std::string number = i < kNumberedDots ? std::to_string(i + 1) : "";
    const char* const direction = kDirections[entry.direction];
    if (!number.empty()) {
      numbered.push_back(
          {at,
           cat(number, ": ", shown_name(*entry.group), " ", direction, ", ", ms_text(work.ms), ", ",
               percent_of_roofline(work, profile), " of the limit"),
           direction, number});
    }
    table.rows.push_back({shown_name(*entry.group), number, direction, fixed(work.ms, 3),
                          number_text(at.x, 3), prefix_text(at.y),
                          number_text(work.bytes / work.ms / 1e6, 3),
                          percent_of_roofline(work, profile)});
  }
  plot.dots.insert(plot.dots.end(), numbered.rbegin(), numbered.rend());  // the slowest on top
  plot.text.description =
      cat("Both axes are logarithmic. ", plot.dots.size(), " dots below a limit that rises with ",
          number_text(profile.ceilings.copy_gb_s, 3), " GB/s to ",
          number_text(profile.ceilings.matmul_tflop_s, 3), " TFLOP/s.");
  std::string caption = cat(
      "One dot per layer and direction. The limit is what this device reaches in a copy (",
      number_text(profile.ceilings.copy_gb_s, 3), " GB/s) and in a large matrix product (",
      number_text(profile.ceilings.matmul_tflop_s, 3), " TFLOP/s, ", profile.ceilings.dtype,
      "). Bytes are the fewest that a kernel must move: what stays in a cache lifts a dot above "
      "the slope. Numbers mark the slowest, equal layers added up, as the table counts them.");
  if (without > 0) caption += cat(" Left out, as it has no FLOPs: ", without, ".");
  return section("roofline", title, figure(svg(plot), caption, table));
}

}  // namespace

WorkDone& WorkDone::operator+=(const WorkDone& other) {
  ms += other.ms;
  bytes += other.bytes;
  flops += other.flops;
  calls += other.calls;
  return *this;
}

std::vector<LayerWork> work_by_layer(const Profile& profile) {
  std::map<std::string, LayerWork> layers;
  for (const ProfileRow& row : profile.rows) {
    const std::string name = row.layer.empty() ? cat("(", row.kernel, ")") : row.layer;
    LayerWork& layer = layers[name];
    layer.layer = name;
    layer.directions[row.direction == Direction::backward ? 1 : 0] +=
        {.ms = row.ms, .bytes = row.bytes, .flops = row.flops, .calls = row.calls};
  }
  return slowest_first(layers);
}

std::vector<LayerWork> fold(const std::vector<LayerWork>& layers) {
  std::map<std::string, LayerWork> groups;
  for (const LayerWork& layer : layers) {
    const std::string name = lamina::folded(layer.layer, {});
    const auto [at, is_new] = groups.try_emplace(name, layer);
    LayerWork& group = at->second;
    if (is_new) continue;
    group.layer = name;
    ++group.layers;
    for (std::size_t i = 0; i < 2; ++i)
      group.directions[i] += layer.directions[i];
  }
  return slowest_first(groups);
}

double mfu(double rate, double flops_per_token, double matmul_tflop_s) {
  if (!(matmul_tflop_s > 0.0)) return std::numeric_limits<double>::quiet_NaN();
  return rate * flops_per_token / (matmul_tflop_s * 1e12);
}

std::string profile_sections(const std::vector<Profile>& profile) {
  if (profile.empty()) {
    return section("step", "Where the step goes",
                   paragraph("Not sampled: lamina-gpt train --profile writes profile.jsonl, from "
                             "which time by layer and the roofline are drawn."));
  }
  const Profile& last = profile.back();
  const std::vector<LayerWork> layers = work_by_layer(last);
  return step_section(last, layers, profile.size()) + roofline_section(last, layers);
}

}  // namespace lamina::gpt
