// SPDX-License-Identifier: MIT
#include "examples/gpt/report_page.h"

#include "core/text.h"
#include "examples/gpt/report_plot.h"

namespace lamina::gpt {

std::string table_html(const Table& table) {
  std::string out =
      cat("<div class='scroll' role='region' tabindex='0' aria-label='", escape(table.caption),
          "'><table><caption>", escape(table.caption), "</caption><thead><tr>");
  const auto style = [&](std::size_t column) {
    return column < table.text_columns ? " class='text'" : "";
  };
  for (std::size_t i = 0; i < table.header.size(); ++i)
    out += cat("<th scope='col'", style(i), ">", escape(table.header[i]), "</th>");
  out += "</tr></thead><tbody>\n";
  for (const std::vector<std::string>& row : table.rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool is_html = i + table.html_columns >= table.header.size();
      const char* const tag = i == 0 ? "th" : "td";
      out += cat("<", tag, i == 0 ? " scope='row'" : "", style(i), ">",
                 is_html ? row[i] : escape(row[i]), "</", tag, ">");
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string folded_table(const Table& table) {
  return cat("<details><summary>Table: ", escape(table.caption), "</summary>", table_html(table),
             "</details>\n");
}

std::string paragraph(const std::string& text) {
  return cat("<p>", escape(text), "</p>\n");
}

std::string section(const std::string& id, const std::string& title, const std::string& html) {
  return cat("<section id='", id, "' aria-labelledby='", id, "-heading'>\n<h2 id='", id,
             "-heading'>", escape(title), "</h2>\n", html, "</section>\n");
}

std::string figure(const std::string& svg_html, const std::string& caption, const Table& table) {
  return cat("<figure>\n", svg_html, "<figcaption>", escape(caption), "</figcaption>\n",
             folded_table(table), "</figure>\n");
}

}  // namespace lamina::gpt
