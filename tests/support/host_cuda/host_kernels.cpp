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

template <typename... A>
int describe(void (*)(A...), int room, size_t* bytes, size_t* alignments) {
    constexpr int count = sizeof...(A);
    const size_t sizes[] = {sizeof(A)...}, aligned[] = {alignof(A)...};
    for (int i = 0; i < count && i < room; ++i) {
        bytes[i] = sizes[i];
        alignments[i] = aligned[i];
    }
    return count;
}

// Call a function with the kernel of that name; `missing` if there is none.
template <typename F>
int with_kernel(const char* name, int missing, F&& function) {
#define KERNEL(NAME) \
    if (strcmp(name, #NAME) == 0) return function(NAME);
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
    KERNEL(upright_rgb)
    return missing;
}

}  // namespace

extern "C" int host_launch(const char* name, const unsigned* grid, const unsigned* block, int count,
                           void** arguments, const int* bytes) {
    return with_kernel(name, UNKNOWN_KERNEL, [=](auto kernel) {
        return launch(kernel, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, count,
                      arguments, bytes);
    });
}

// Sizes and alignments of a kernel's parameters; their number, or -1 if there is no such kernel.
extern "C" int host_parameters(const char* name, int room, size_t* bytes, size_t* alignments) {
    return with_kernel(name, -1,
                       [=](auto kernel) { return describe(kernel, room, bytes, alignments); });
}

extern "C" void host_taps(const int* targets, int count, int target_size, int source_size,
                          const Divisors* divisors, int pairs, Tap* taps) {
    for (int i = 0; i < count; ++i) {
        taps[i] = pairs != 0 ? make_pair(targets[i], target_size, source_size, divisors->rows)
                             : make_tap(targets[i], target_size, source_size, divisors->rows);
    }
}
