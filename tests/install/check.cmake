# SPDX-License-Identifier: MIT
# Installs a build into a fresh prefix and uses it as a stranger would: by find_package, pkg-config and
# add_subdirectory. tests/CMakeLists.txt says which variables it takes.
cmake_minimum_required(VERSION 3.25)
set(work ${BUILD}/tests/install)
set(prefix ${work}/prefix)
file(REMOVE_RECURSE ${work})

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()
set(configure ${CMAKE_COMMAND} -G ${GENERATOR} -S ${SOURCE}/tests/install/consumer
    -DCMAKE_CXX_COMPILER=${CXX} -DCMAKE_EXPORT_COMPILE_COMMANDS=ON)

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
file(GLOB_RECURSE exported ${prefix}/*.cmake ${prefix}/*.pc)
foreach(file IN LISTS exported)
  file(READ ${file} text)
  string(REGEX REPLACE "\\$\\{[A-Za-z_]+\\}[^\"; \n]*" "" text "${text}")  # relative to the file
  foreach(folder ${SOURCE} ${BUILD})
    string(FIND "${text}" ${folder} position)
    if(NOT position EQUAL -1)
      message(FATAL_ERROR "${file} names ${folder}, expected nothing of where it was built")
    endif()
  endforeach()
endforeach()

file(READ ${SOURCE}/vcpkg.json manifest)
string(JSON manifest_version GET "${manifest}" version)
if(NOT manifest_version STREQUAL VERSION)
  message(FATAL_ERROR "vcpkg.json says version ${manifest_version}, expected ${VERSION}")
endif()

# With find_package.
set(package ${work}/package)
run(${configure} -B ${package} -DCMAKE_PREFIX_PATH=${prefix} -DLAMINA_VERSION=${VERSION})
run(${CMAKE_COMMAND} --build ${package})
run(${package}/consumer)
string(REGEX MATCH "^[0-9]+" major ${VERSION})
math(EXPR major "${major} + 1")
execute_process(COMMAND ${configure} -B ${package} -DLAMINA_VERSION=${major}
                RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE text)
if(status EQUAL 0 OR NOT text MATCHES "laminaConfig\\.cmake, version: ${VERSION}")
  message(FATAL_ERROR "find_package(lamina ${major}) of version ${VERSION} said \"${text}\", expected a refusal")
endif()

# With pkg-config.
find_program(pkg_config NAMES pkg-config)
if(pkg_config)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${prefix}/${LIBDIR}/pkgconfig
                          ${pkg_config} --cflags --libs "lamina = ${VERSION}"
                  OUTPUT_VARIABLE flags COMMAND_ERROR_IS_FATAL ANY)
  separate_arguments(flags UNIX_COMMAND "${flags}")
  run(${CXX} -std=c++20 ${SOURCE}/tests/install/consumer/main.cpp -o ${work}/pkg_config_consumer ${flags})
endif()

# As a folder of another project, without CUDA and not built, which takes long.
set(folder ${work}/folder)
run(${configure} -B ${folder} -DLAMINA_SOURCE=${SOURCE} -DLAMINA_CUDA=OFF)
file(READ ${folder}/compile_commands.json commands)
if(commands MATCHES "_test\\.cpp|examples/|benchmarks/")
  message(FATAL_ERROR "add_subdirectory(lamina) compiles ${CMAKE_MATCH_0}, expected the libraries only")
endif()
file(STRINGS ${folder}/compile_commands.json command REGEX "command.*consumer/main\\.cpp")
if(NOT command OR command MATCHES "-Wconversion")
  message(FATAL_ERROR "the program beside add_subdirectory(lamina) is compiled by \"${command}\", expected "
                      "without the warnings of Lamina's own files")
endif()
