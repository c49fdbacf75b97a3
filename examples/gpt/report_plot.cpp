// SPDX-License-Identifier: MIT
#include "examples/gpt/report_plot.h"

#include "core/text.h"
#include "examples/gpt/live_line.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

namespace lamina::gpt {

namespace {

constexpr int kBarPitch = 40;  // px from one bar to the next: a line of text and the bar below it

/// A share as a percentage of the plot.
std::string percent(double share) {
  return cat(fixed(100.0 * std::clamp(share, -1.0, 2.0), 2), "%");
}

/// A share as a coordinate of the stretched part, which is 1000 wide and high.
std::string across(double share) {
  return fixed(1000.0 * std::clamp(share, -1.0, 2.0), 1);
}

/// The largest of 1, 2, 5, 10, 20, ... and 0.5, 0.2, ... that is not above `value`.
double round_down(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  double best = power;
  for (const double digit : {2.0, 5.0, 10.0}) {
    if (digit * power <= value * (1.0 + 1e-9)) best = digit * power;
  }
  return best;
}

double round_up(double value) {
  const double power = std::pow(10.0, std::floor(std::log10(value)));
  for (const double digit : {1.0, 2.0, 5.0}) {
    if (digit * power >= value * (1.0 - 1e-9)) return digit * power;
  }
  return 10.0 * power;
}

std::vector<double> linear_ticks(double low, double high) {
  if (low == high) {
    const double room = low == 0.0 ? 1.0 : 0.5 * std::abs(low);
    low -= room;
    high += room;
  }
  const double step = round_up((high - low) / 6.0);
  const double first = std::floor(low / step + 1e-9), last = std::ceil(high / step - 1e-9);
  std::vector<double> ticks;
  for (double i = first; i <= last; ++i)
    ticks.push_back(i * step);
  return ticks;
}

/// Powers of ten, and with 2 and 5 between them where that is few enough. low and high are round.
std::vector<double> log_ticks(double low, double high) {
  std::vector<double> ticks;
  if (high / low < 150.0) {
    for (double tick = low; tick < high * 1.1; tick = round_up(1.5 * tick))
      ticks.push_back(tick);
    return ticks;
  }
  const double first = std::ceil(std::log10(low) - 1e-9), last = std::log10(high) + 1e-9;
  const double step = std::ceil((last - first) / 8.0);
  for (double power = first; power <= last; power += step)
    ticks.push_back(std::pow(10.0, power));
  return ticks;
}

std::string open_svg(const PlotText& text, const std::string& kind, int height) {
  return cat("<svg class='plot ", kind, "' height='", height, "' role='img' aria-labelledby='",
             text.id, "-title ", text.id, "-description'>\n<title id='", text.id, "-title'>",
             escape(text.title), "</title>\n<desc id='", text.id, "-description'>",
             escape(text.description), "</desc>\n");
}

struct LegendEntry {
  std::string name, style;
};

std::string legend(const std::vector<LegendEntry>& entries) {
  std::string html = "<ul class='legend'>";
  for (const LegendEntry& entry : entries) {
    html += cat("<li><span class='key ", entry.style, "'></span>", escape(entry.name), "</li>");
  }
  return html + "</ul>\n";
}

std::string tick_text(double value) {
  return std::abs(value) >= 1e4 ? prefix_text(value) : number_text(value);
}

/// Grid, tick labels and axis labels.
std::string frame(const PlotText& text, const Axis& x, const Axis& y) {
  std::string out = "<g class='frame'>\n";
  for (const double tick : y.ticks()) {
    const std::string at = percent(1.0 - y.at(tick));
    out += cat("<line x1='0' x2='100%' y1='", at, "' y2='", at, "'/><text class='left' ",
               "x='-8' y='", at, "' dy='.32em'>", tick_text(tick), "</text>\n");
  }
  for (const double tick : x.ticks()) {
    out += cat("<text class='below' x='", percent(x.at(tick)), "' y='100%' dy='18'>",
               tick_text(tick), "</text>\n");
  }
  return out + cat("<text class='y-label' x='-52' y='-12'>", escape(text.y_label),
                   "</text><text class='x-label' x='100%' y='100%' dy='36'>", escape(text.x_label),
                   "</text>\n</g>\n");
}

constexpr const char* kOpenStretched =
    "<svg viewBox='0 0 1000 1000' preserveAspectRatio='none' width='100%' height='100%'>\n";

std::string path(std::span<const Point> points, const Axis& x, const Axis& y) {
  std::string out;
  for (const Point& point : points) {
    out += cat(out.empty() ? "M" : "L", across(x.at(point.x)), " ", across(1.0 - y.at(point.y)));
  }
  return out;
}

std::string curve(const Line& line, const Axis& x, const Axis& y) {
  std::vector<Point> middle, outline;
  for (const Bucket& bucket : line.points) {
    middle.push_back({bucket.x, bucket.mean});
    outline.push_back({bucket.x, bucket.high});
  }
  std::string out;
  const bool has_band = std::any_of(line.points.begin(), line.points.end(),
                                    [](const Bucket& bucket) { return bucket.points > 1; });
  if (has_band) {
    for (auto bucket = line.points.rbegin(); bucket != line.points.rend(); ++bucket)
      outline.push_back({bucket->x, bucket->low});
    out += cat("<path class='band ", line.style, "' d='", path(outline, x, y), "Z'/>\n");
  }
  return out + cat("<path class='curve ", line.style, "' d='", path(middle, x, y), "'/>\n");
}

std::string marks(const Line& line, const Axis& x, const Axis& y, const PlotText& text) {
  std::string out;
  for (const Bucket& point : line.points) {
    out += cat("<circle class='mark ", line.style, "' cx='", percent(x.at(point.x)), "' cy='",
               percent(1.0 - y.at(point.mean)), "' r='3'><title>", escape(line.name), ", ",
               escape(text.x_label), " ", number_text(point.x, 12), ": ", number_text(point.mean),
               "</title></circle>\n");
  }
  return out;
}

}  // namespace

std::string escape(std::string_view text) {
  // Through the JSON library, which replaces what is not UTF-8.
  const std::string json =
      nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::string out;
  for (const char c : nlohmann::json::parse(json).get<std::string>()) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) {
      out += "\xe2\x90";  // U+2400 + byte; U+2421 for delete
      out += static_cast<char>(0x80 + (byte == 0x7f ? 0x21 : byte));
    } else {
      out += c;
    }
  }
  return out;
}

std::string number_text(double value, int digits) {
  if (std::isnan(value)) return "–";
  if (std::isinf(value)) return value < 0.0 ? "-∞" : "∞";
  const double size = std::abs(value);
  if (size != 0.0 && (size < 1e-4 || size >= 1e15)) return scientific(value);
  const int before = size < 1.0 ? 0 : static_cast<int>(std::floor(std::log10(size))) + 1;
  const int leading_zeros =
      size > 0.0 && size < 1.0 ? static_cast<int>(-std::floor(std::log10(size))) - 1 : 0;
  std::string text = fixed(value, std::max(0, digits - before) + leading_zeros);
  if (const std::size_t point = text.find('.'); point != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  const std::size_t sign = text.front() == '-' ? 1 : 0;
  for (std::size_t at = std::min(text.find('.'), text.size()); at > sign + 3;) {
    at -= 3;
    text.insert(at, 1, ',');
  }
  return text;
}

std::string prefix_text(double value, int digits) {
  constexpr std::array kPrefixes{"", " k", " M", " G", " T", " P"};
  std::size_t prefix = 0;
  while (std::abs(value) >= 999.5 && prefix + 1 < kPrefixes.size()) {
    value /= 1e3;
    ++prefix;
  }
  return number_text(value, digits) + kPrefixes[prefix];
}

std::vector<Bucket> buckets_of(std::span<const Point> points, std::size_t most) {
  std::vector<Point> finite;
  std::copy_if(points.begin(), points.end(), std::back_inserter(finite),
               [](const Point& point) { return std::isfinite(point.x) && std::isfinite(point.y); });
  const std::size_t count = std::min(finite.size(), most);
  std::vector<Bucket> buckets;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t first = i * finite.size() / count, end = (i + 1) * finite.size() / count;
    Bucket bucket{.low = std::numeric_limits<double>::infinity(),
                  .high = -std::numeric_limits<double>::infinity(),
                  .points = end - first};
    const auto size = static_cast<double>(bucket.points);
    for (std::size_t at = first; at < end; ++at) {
      bucket.x += finite[at].x / size;
      bucket.mean += finite[at].y / size;
      bucket.low = std::min(bucket.low, finite[at].y);
      bucket.high = std::max(bucket.high, finite[at].y);
    }
    buckets.push_back(bucket);
  }
  return buckets;
}

Axis::Axis(std::span<const double> values, Scale scale)
    : scale_(scale), low_(std::numeric_limits<double>::infinity()), high_(-low_) {
  for (const double value : values) {
    if (!std::isfinite(value) || (scale == Scale::log && value <= 0.0)) continue;
    low_ = std::min(low_, value);
    high_ = std::max(high_, value);
  }
  const bool is_empty = low_ > high_ || !std::isfinite(high_ - low_);
  if (scale == Scale::log) {
    low_ = is_empty ? 1.0 : round_down(low_);
    high_ = is_empty ? 10.0 : std::max(round_up(high_), round_up(1.5 * low_));
    ticks_ = log_ticks(low_, high_);
  } else {
    ticks_ = is_empty ? linear_ticks(0.0, 1.0) : linear_ticks(low_, high_);
    low_ = ticks_.front();
    high_ = ticks_.back();
  }
}

double Axis::at(double value) const {
  if (scale_ == Scale::linear) return (value - low_) / (high_ - low_);
  return value > 0.0 ? std::log(value / low_) / std::log(high_ / low_) : -1.0;
}

std::string svg(const LinePlot& plot) {
  std::vector<double> xs = {0.0}, ys;
  std::vector<LegendEntry> entries;
  for (const Line& line : plot.lines) {
    entries.push_back({line.name, line.style});
    for (const Bucket& bucket : line.points) {
      xs.push_back(bucket.x);
      ys.insert(ys.end(), {bucket.low, bucket.high});
    }
  }
  if (plot.from_zero) ys.push_back(0.0);
  const Axis x(xs, Scale::linear), y(ys, plot.y_scale);
  const bool has_right = plot.right_factor > 0.0;
  std::string out =
      legend(entries) + open_svg(plot.text, has_right ? "lines two-sided" : "lines", 240);
  out += frame(plot.text, x, y);
  if (has_right) {
    out += "<g class='frame'>\n";
    for (const double tick : y.ticks()) {
      out += cat("<text class='right' x='100%' dx='8' y='", percent(1.0 - y.at(tick)),
                 "' dy='.32em'>", number_text(plot.right_factor * tick, 3), "</text>\n");
    }
    out += cat("<text class='x-label' x='100%' dx='44' y='-12'>", escape(plot.right_label),
               "</text>\n</g>\n");
  }
  out += kOpenStretched;
  for (const Line& line : plot.lines)
    out += curve(line, x, y);
  out += "</svg>\n";
  for (const Line& line : plot.lines) {
    if (line.has_marks) out += marks(line, x, y, plot.text);
  }
  return out + "</svg>\n";
}

std::string svg(const Roofline& plot) {
  const double ridge = plot.flops_per_second / plot.bytes_per_second;
  std::vector<double> xs = {ridge / 10.0, ridge * 4.0}, ys = {plot.flops_per_second};
  for (const Dot& dot : plot.dots) {
    xs.push_back(dot.at.x);
    ys.push_back(dot.at.y);
  }
  const Axis x(xs, Scale::log), y(ys, Scale::log);
  const std::array<Point, 3> roof = {{{x.low(), plot.bytes_per_second * x.low()},
                                      {ridge, plot.flops_per_second},
                                      {x.high(), plot.flops_per_second}}};
  std::string out =
      legend({{"forward", "forward"}, {"backward", "backward ring"}, {"limit", "roof"}});
  out += open_svg(plot.text, "roofline", 320) + frame(plot.text, x, y) + kOpenStretched;
  out += cat("<path class='curve roof' d='", path(roof, x, y), "'/>\n</svg>\n");
  for (const Dot& dot : plot.dots) {
    const std::string cx = percent(x.at(dot.at.x)), cy = percent(1.0 - y.at(dot.at.y));
    const bool has_number = !dot.number.empty();
    out += cat("<g class='dot ", dot.style, "'><title>", escape(dot.name), "</title><circle cx='",
               cx, "' cy='", cy, "' r='", has_number ? 8 : 3, "'/>");
    if (has_number) {
      out += cat("<text x='", cx, "' y='", cy, "' dy='.34em'>", escape(dot.number), "</text>");
    }
    out += "</g>\n";
  }
  return out + "</svg>\n";
}

std::string svg(const BarPlot& plot) {
  double low = 0.0, high = 0.0;
  for (const Bar& bar : plot.bars) {
    double below = 0.0, above = 0.0;
    for (const Segment& segment : bar.segments)
      (segment.value < 0.0 ? below : above) += segment.value;
    low = std::min(low, below);
    high = std::max(high, above);
  }
  const double range = high > low ? high - low : 1.0;
  std::string out = open_svg(plot.text, "bars", kBarPitch * static_cast<int>(plot.bars.size()));
  int top = 0;
  for (const Bar& bar : plot.bars) {
    out += cat("<text y='", top + 16, "'>", escape(bar.name), "</text><text class='value' x='",
               "100%' y='", top + 16, "'>", escape(bar.value), "</text><rect class='track' y='",
               top + 23, "' width='100%' height='8'/>");
    double below = 0.0, above = 0.0;
    for (const Segment& segment : bar.segments) {
      double& side = segment.value < 0.0 ? below : above;
      const double start = std::min(side, side + segment.value);
      side += segment.value;
      out += cat("<rect class='", segment.style, "' x='", percent((start - low) / range), "' y='",
                 top + 23, "' width='", percent(std::abs(segment.value) / range),
                 "' height='8'><title>", escape(segment.name), "</title></rect>");
    }
    out += "\n";
    top += kBarPitch;
  }
  return out + "</svg>\n";
}

std::string sparkline(std::span<const Point> points) {
  std::vector<double> xs, ys = {0.0};
  for (const Point& point : points) {
    xs.push_back(point.x);
    ys.push_back(point.y);
  }
  return cat("<svg class='spark' viewBox='0 0 1000 1000' preserveAspectRatio='none' ",
             "aria-hidden='true'><path class='curve one' d='",
             path(points, Axis(xs, Scale::linear), Axis(ys, Scale::linear)), "'/></svg>");
}

}  // namespace lamina::gpt
