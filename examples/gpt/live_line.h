// SPDX-License-Identifier: MIT
// What lamina-gpt prints while it works: one line that overwrites itself on a terminal, plain lines
// elsewhere. Colour only on a terminal and without NO_COLOR (https://no-color.org).
#pragma once

#include <cstddef>
#include <ostream>
#include <string>

namespace lamina::gpt {

/// Where text goes. Streams outlive the object.
struct Console {
  std::ostream& out;
  std::ostream& errors;
  bool is_terminal = false;
  bool use_color = false;
  std::size_t columns = 200;           // of the terminal
  std::string program = "lamina-gpt";  // a word of a shell: what the user calls this program
};

class LiveLine {
 public:
  explicit LiveLine(Console& console) : console_(console) {}

  /// Replaces the line on a terminal, cut to its width; prints one elsewhere.
  void update(const std::string& text);

  /// Prints a line that stays.
  void print(const std::string& text);

  /// The same, set off by weight where colour is allowed.
  void print_bold(const std::string& text);

 private:
  Console& console_;
};

/// The value with so many digits after the point; with_sign also for positive values.
std::string fixed(double value, int digits, bool with_sign = false);

/// "2.0e-03"
std::string scientific(double value);

/// "950", "49.7k", "2.60M"
std::string count_text(double count);

/// "0:32", "1:02:03"
std::string duration_text(double seconds);

}  // namespace lamina::gpt
