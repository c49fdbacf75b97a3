// SPDX-License-Identifier: MIT
// What Lamina thinks of safetensors files: for each path on standard input a line on standard
// output, "accepted" or why not. Each tensor of an accepted file is read; "unread" in the line says
// that this threw something else than Error. Run by safetensors_verdicts.py.
#include "core/error.h"
#include "nn/safetensors.h"

#include <exception>
#include <iostream>
#include <string>

namespace {

/// Reads what Lamina can read.
std::string read_all(const lamina::nn::TensorReader& reader) {
  for (const auto& [name, entry] : reader.entries()) {
    try {
      reader.read(name);
    } catch (const lamina::Error&) {  // a dtype or a size that Lamina has not
    } catch (const std::exception& error) {
      return error.what();
    }
  }
  return "";
}

}  // namespace

int main() {
  for (std::string path; std::getline(std::cin, path);) {
    try {
      const std::string unread = read_all(lamina::nn::TensorReader(path));
      std::cout << (unread.empty() ? "accepted" : "unread: " + unread) << "\n";
    } catch (const lamina::Error& error) {
      std::string text = error.what();
      for (char& c : text)
        c = c == '\n' ? ' ' : c;
      std::cout << text << "\n";
    }
  }
}
