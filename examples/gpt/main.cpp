// SPDX-License-Identifier: MIT
#include "examples/gpt/cli.h"

#include <cstdlib>
#include <iostream>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>
#include <vector>

int main(int argc, char** argv) {
  const bool is_terminal = isatty(STDOUT_FILENO) == 1;
  const char* const no_color = std::getenv("NO_COLOR");
  lamina::gpt::Console console{.out = std::cout,
                               .errors = std::cerr,
                               .is_terminal = is_terminal,
                               .use_color = is_terminal && (no_color == nullptr || *no_color == 0)};
  winsize size{};
  if (is_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
    console.columns = size.ws_col;
  }
  return lamina::gpt::run_command(std::vector<std::string>(argv + 1, argv + argc), console);
}
