// SPDX-License-Identifier: MIT
// The parts that the sections of the report are made of. Arguments are text unless they are called
// html: only those are not escaped.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace lamina::gpt {

struct Table {
  std::string caption;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  std::size_t text_columns = 1;  // the first columns, which are not numbers
  std::size_t html_columns = 0;  // the last columns, which are markup
};

/// A table that scrolls on its own where it is wider than the page. The first column names the row.
std::string table_html(const Table& table);

/// The same, folded away until it is asked for.
std::string folded_table(const Table& table);

std::string paragraph(const std::string& text);

/// A part of the page with a heading that the navigation links to.
std::string section(const std::string& id, const std::string& title, const std::string& html);

/// A plot with what it says below it, and the table behind it.
std::string figure(const std::string& svg_html, const std::string& caption, const Table& table);

}  // namespace lamina::gpt
