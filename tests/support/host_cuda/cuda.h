// What kernels.cu needs of CUDA, on the host: threads run one after the other.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <algorithm>

using std::max;
using std::min;

#define __global__
#define __device__ inline

struct dim3 {
    unsigned x, y, z;
};

static dim3 blockIdx, blockDim, threadIdx;

struct __half {
    uint16_t bits;
};

inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __half2float(__half half) {
    const uint32_t sign = (half.bits & 0x8000u) << 16;
    const uint32_t rest = half.bits & 0x7fffu;
    // 2^112 moves the exponent from binary16's bias to binary32's, and normalises subnormals.
    const float value = float_of(rest << 13) * 0x1p112f;
    return float_of(bits_of(rest >= 0x7c00u ? float_of(0x7f800000u | rest << 13) : value) | sign);
}

// To the nearest, ties to even.
inline __half __float2half_rn(float value) {
    const uint32_t bits = bits_of(value);
    const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
    const uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
    if (rest >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};
    if (rest < 0x38800000u) {  // subnormal: this sum leaves its bits at the end
        return {static_cast<uint16_t>(sign | (bits_of(float_of(rest) + 0.5f) - 0x3f000000u))};
    }
    const uint32_t rounded = rest + 0xfffu + (rest >> 13 & 1u);
    return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}
