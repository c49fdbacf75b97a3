# SPDX-License-Identifier: MIT
# Fails unless PROGRAM ends with status 0 and prints the text of the file EXPECTED.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND ${PROGRAM} OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
file(READ ${EXPECTED} expected)
if(NOT printed STREQUAL expected)
  message(FATAL_ERROR "${PROGRAM} printed\n${printed}\nexpected (${EXPECTED})\n${expected}")
endif()
