# SPDX-License-Identifier: MIT
# lamina_headers: what a program that includes Lamina's headers is compiled with.
# lamina_options: warnings, sanitizers and CUDA settings of Lamina's own targets, and of no others.
# lamina_layer(): one static library per folder.
include(GNUInstallDirs)
set(LAMINA_HAS_CUDA FALSE)
set(LAMINA_LEAST_CUDA 12.4)  # C++20 with the features used here; Debian and Ubuntu ship older ones
if(NOT LAMINA_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES ${LAMINA_CUDA_ARCHITECTURES})  # "native" fails without a GPU
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    find_package(CUDAToolkit QUIET)
  endif()
  if(CMAKE_CUDA_COMPILER AND CUDAToolkit_VERSION VERSION_GREATER_EQUAL LAMINA_LEAST_CUDA)
    enable_language(CUDA)
    set(LAMINA_HAS_CUDA TRUE)
  elseif(LAMINA_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LAMINA_CUDA=ON, but the CUDA toolkit found is \"${CUDAToolkit_VERSION}\", expected "
                        "${LAMINA_LEAST_CUDA} or later; set CUDACXX to its nvcc or pass -DLAMINA_CUDA=OFF")
  endif()
endif()

add_library(lamina_headers INTERFACE)
set_target_properties(lamina_headers PROPERTIES EXPORT_NAME headers)
target_compile_features(lamina_headers INTERFACE cxx_std_20)
target_include_directories(lamina_headers INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/lamina>)
target_compile_definitions(lamina_headers INTERFACE LAMINA_WITH_CUDA=$<BOOL:${LAMINA_HAS_CUDA}>)

add_library(lamina_options INTERFACE)
target_compile_options(lamina_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wno-missing-field-initializers>
  $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wshadow=local>)
if(LAMINA_WERROR)
  target_compile_options(lamina_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Werror> $<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings>)
endif()
if(LAMINA_SANITIZE)
  target_compile_options(lamina_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:
    -fsanitize=${LAMINA_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer>)
  # g++ 12 takes std::regex, which cxxopts uses, for uninitialised when it is instrumented.
  target_compile_options(lamina_options INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized>)
  target_link_options(lamina_options INTERFACE -fsanitize=${LAMINA_SANITIZE})
endif()
if(LAMINA_COVERAGE)
  target_compile_options(lamina_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:--coverage>)
  target_link_options(lamina_options INTERFACE --coverage)
endif()
if(LAMINA_HAS_CUDA)
  if("cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
    target_compile_features(lamina_options INTERFACE cuda_std_20)
  else()  # CMake 3.25.1 does not know nvcc's flag for C++20
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA_STANDARD 20)
  endif()
  # Lines for ncu and compute-sanitizer take an eighth of the compile time: -DCMAKE_BUILD_TYPE=RelWithDebInfo has them.
  target_compile_options(lamina_options INTERFACE
    $<$<AND:$<COMPILE_LANGUAGE:CUDA>,$<CONFIG:RelWithDebInfo>>:-lineinfo>
    $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;--extended-lambda;-Xcompiler=-Wall,-Wextra>)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 12.8)  # a third off the libraries' size
    target_compile_options(lamina_options INTERFACE $<$<COMPILE_LANGUAGE:CUDA>:--compress-mode=size>)
  endif()
endif()

# lamina_layer(<name> SOURCES ... DEPENDS ...): the static library lamina::<name>. Position-independent,
# as liblamina_kernels.so contains parts of it.
function(lamina_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPENDS")
  add_library(lamina_${name} STATIC ${arg_SOURCES})
  add_library(lamina::${name} ALIAS lamina_${name})
  set_target_properties(lamina_${name} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(lamina_${name} PUBLIC lamina_headers ${arg_DEPENDS}
                                       PRIVATE $<BUILD_INTERFACE:lamina_options>)
endfunction()
