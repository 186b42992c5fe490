// The kernels themselves, compiled for the host, behind one call like cuLaunchKernel's.
#include <stddef.h>

#include <utility>

#include "cuda.h"
#include "kernels.cu"

namespace {

enum { LAUNCHED = 0, UNKNOWN_KERNEL = 1, WRONG_ARGUMENTS = 2 };

template <typename... A, size_t... I>
int launch(void (*kernel)(A...), dim3 grid, dim3 block, int count, void** arguments,
           const int* bytes, std::index_sequence<I...>) {
    if (count != sizeof...(A)) return WRONG_ARGUMENTS;
    if (!((bytes[I] == sizeof(A)) && ...)) return WRONG_ARGUMENTS;
    blockDim = block;
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x)
                for (threadIdx.z = 0; threadIdx.z < block.z; ++threadIdx.z)
                    for (threadIdx.y = 0; threadIdx.y < block.y; ++threadIdx.y)
                        for (threadIdx.x = 0; threadIdx.x < block.x; ++threadIdx.x)
                            kernel(*static_cast<A*>(arguments[I])...);
    return LAUNCHED;
}

template <typename... A>
int launch(void (*kernel)(A...), dim3 grid, dim3 block, int count, void** arguments,
           const int* bytes) {
    return launch(kernel, grid, block, count, arguments, bytes, std::index_sequence_for<A...>{});
}

}  // namespace

extern "C" int host_launch(const char* name, const unsigned* grid, const unsigned* block, int count,
                           void** arguments, const int* bytes) {
#define KERNEL(NAME)                                                                            \
    if (strcmp(name, #NAME) == 0)                                                               \
        return launch(NAME, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, count, \
                      arguments, bytes);
    KERNEL(preprocess_float32)
    KERNEL(preprocess_float16)
    KERNEL(preprocess_uint8_float32)
    KERNEL(preprocess_uint8_float16)
    KERNEL(preprocess_uint16_float32)
    KERNEL(preprocess_uint16_float16)
    KERNEL(preprocess_int16_float32)
    KERNEL(preprocess_int16_float16)
    KERNEL(preprocess_float32_float32)
    KERNEL(preprocess_float32_float16)
    KERNEL(resample_bytes_float32)
    KERNEL(resample_bytes_float16)
    KERNEL(resample_uint8_float32)
    KERNEL(resample_uint8_float16)
    KERNEL(resample_uint16_float32)
    KERNEL(resample_uint16_float16)
    KERNEL(resample_int16_float32)
    KERNEL(resample_int16_float16)
    KERNEL(resample_float32_float32)
    KERNEL(resample_float32_float16)
    KERNEL(postprocess_float32)
    KERNEL(postprocess_float16)
    KERNEL(postprocess_confidence_float32)
    KERNEL(postprocess_confidence_float16)
    KERNEL(overlay)
    return UNKNOWN_KERNEL;
}
