// SPDX-License-Identifier: MIT
// Plots of `lamina-gpt report` as inline SVG. Text keeps its size and the plot its height whatever
// the width of the page: positions across are percentages, and curves are stretched without their
// strokes. Colours and fonts come from report.css. Every plot has a title and a description; the
// numbers behind it go into a table of the page.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lamina::gpt {

/// Text for HTML, in elements and in quoted attributes: markup is escaped, control characters but
/// newline and tab become their pictures (U+2400 ...), bytes that are not UTF-8 become U+FFFD.
std::string escape(std::string_view text);

/// A number with so many significant digits, without an exponent where it can be read: "0.0123",
/// "1,234", "4.1e-07"; "–" for NaN.
std::string number_text(double value, int digits = 4);

/// With a prefix: "12.5 k", "3.2 T".
std::string prefix_text(double value, int digits = 3);

struct Point {
  double x = 0.0, y = 0.0;
};

/// Neighbouring points as one: the mean of x, and least, mean and most of y.
struct Bucket {
  double x = 0.0, low = 0.0, mean = 0.0, high = 0.0;
  std::size_t points = 0;
};

/// At most `most` buckets of as equal sizes as possible, in the given order. Points that are not
/// finite are left out. With no more points than that, one bucket for each.
std::vector<Bucket> buckets_of(std::span<const Point> points, std::size_t most);

enum class Scale { linear, log };

/// Maps data to [0, 1]; 0 and 1 are round numbers.
class Axis {
 public:
  /// Holds every finite value; on a log axis, the positive ones. Without any: [0, 1] or [1, 10].
  Axis(std::span<const double> values, Scale scale);

  /// Outside of [0, 1] for values that the axis does not hold.
  double at(double value) const;

  double low() const { return low_; }

  double high() const { return high_; }

  /// Ascending; on a log axis that spans much, powers of ten alone.
  const std::vector<double>& ticks() const { return ticks_; }

 private:
  Scale scale_;
  double low_, high_;
  std::vector<double> ticks_;
};

/// What a plot is called. `id` is unique on the page; `description` says what a person sees.
struct PlotText {
  std::string id, title, description, x_label, y_label;
};

struct Line {
  std::string name;
  std::string style;  // class of report.css: "one", "two", "three"
  std::vector<Bucket> points;
  bool has_marks = false;  // a dot with its value at each point
};

struct LinePlot {
  PlotText text;
  std::vector<Line> lines;
  Scale y_scale = Scale::linear;
  bool from_zero = false;
  double right_factor = 0.0;  // labels at the right show this times y; 0: none
  std::string right_label;
};

/// Lines with bands from least to most, and a legend. The x axis begins at 0.
std::string svg(const LinePlot& plot);

struct Dot {
  Point at;                         // FLOP per byte, FLOP/s
  std::string name, style, number;  // number: in the dot, for the table; may be empty
};

struct Roofline {
  PlotText text;
  std::vector<Dot> dots;
  double bytes_per_second = 0.0, flops_per_second = 0.0;  // the roof
};

std::string svg(const Roofline& plot);

struct Segment {
  double value = 0.0;
  std::string style, name;
};

struct Bar {
  std::string name, value;  // texts at the left and at the right
  std::vector<Segment> segments;
};

struct BarPlot {
  PlotText text;
  std::vector<Bar> bars;
};

/// Horizontal bars, one below the other, from a common zero.
std::string svg(const BarPlot& plot);

/// A small curve without axes for a table cell; hidden from screen readers.
std::string sparkline(std::span<const Point> points);

}  // namespace lamina::gpt
