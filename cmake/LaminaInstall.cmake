# SPDX-License-Identifier: MIT
# cmake --install: the libraries, the headers of core, autograd and nn, lamina-gpt, and the files that
# find_package(lamina) and pkg-config read. They name what is Lamina's relative to themselves, so that the
# prefix can be moved.
if(NOT LAMINA_INSTALL)  # by default in a project that contains Lamina: its packages rarely want it
  return()
endif()
include(CMakePackageConfigHelpers)
set(header_dir ${CMAKE_INSTALL_INCLUDEDIR}/lamina)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/lamina)

set(libraries lamina_nn lamina_autograd lamina_core lamina_cpu_kernels)
if(LAMINA_HAS_CUDA)
  list(APPEND libraries lamina_cuda_kernels)
  install(TARGETS lamina_kernels EXPORT laminaTargets)
  install(FILES cuda_kernels/lamina_kernels.h DESTINATION ${header_dir}/cuda_kernels)
else()
  set(without_cuda PATTERN cuda EXCLUDE)  # core/cuda
endif()
install(TARGETS lamina lamina_headers ${libraries} EXPORT laminaTargets)
install(DIRECTORY core autograd nn DESTINATION ${header_dir} FILES_MATCHING PATTERN "*.h" ${without_cuda})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
if(TARGET lamina-gpt)  # the CUDA toolkit may be where the loader does not look
  set_target_properties(lamina-gpt PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  install(TARGETS lamina-gpt)
endif()

install(EXPORT laminaTargets NAMESPACE lamina:: DESTINATION ${package_dir})
configure_package_config_file(cmake/laminaConfig.cmake.in laminaConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(laminaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/laminaConfig.cmake ${PROJECT_BINARY_DIR}/laminaConfigVersion.cmake
        DESTINATION ${package_dir})

# The libraries are static, so a program links to all that they need.
list(TRANSFORM libraries PREPEND "-l" OUTPUT_VARIABLE pc_libraries)
list(JOIN pc_libraries " " pc_libraries)
list(JOIN BLAS_LIBRARIES " " pc_blas)
set(pc_flags -DLAMINA_WITH_CUDA=0)
if(LAMINA_HAS_CUDA)
  list(TRANSFORM CUDAToolkit_INCLUDE_DIRS PREPEND "-I" OUTPUT_VARIABLE pc_flags)
  list(JOIN pc_flags " " pc_flags)
  string(PREPEND pc_flags "-DLAMINA_WITH_CUDA=1 ")
  set(pc_cuda "-L${CUDAToolkit_LIBRARY_DIR} -lcublasLt -lcudart -ldl")
endif()
file(RELATIVE_PATH pc_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/lamina.pc.in lamina.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/lamina.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
