// How kernels read and write: pixels side by side, in one access where their address allows it.
#pragma once

#ifdef __CUDACC__  // the tests' host build has its own __half
#include <cuda_fp16.h>
#endif

#include <stddef.h>

namespace {

constexpr int QUAD = 4;           // adjacent pixels a thread: one load and one store
constexpr int MAX_CLASSES = 256;  // masks are 8 bit
constexpr int MAX_CHANNELS = 64;  // of the net's input

// Loaded and stored as one vector.
template <typename T, int COUNT, int ALIGNMENT>
struct alignas(ALIGNMENT) Pack {
    T of[COUNT];
};

template <typename T>
using Quad = Pack<T, QUAD, QUAD * sizeof(T)>;

__device__ bool is_aligned(const void* address, size_t bytes) {
    return reinterpret_cast<size_t>(address) % bytes == 0;
}

// The first `count` of four pixels.
template <typename T>
__device__ void store_quad(T* __restrict__ target, const Quad<T>& values, int count) {
    if (count >= QUAD && is_aligned(target, sizeof(values))) {
        *reinterpret_cast<Quad<T>*>(target) = values;
        return;
    }
#pragma unroll
    for (int i = 0; i < QUAD; ++i) {
        if (i < count) target[i] = values.of[i];
    }
}

__device__ float as_float(float value) { return value; }
__device__ float as_float(__half value) { return __half2float(value); }
__device__ void assign(float& target, float value) { target = value; }
__device__ void assign(__half& target, float value) { target = __float2half_rn(value); }

}  // namespace
