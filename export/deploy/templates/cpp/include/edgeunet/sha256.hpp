// SHA-256 (FIPS 180-4): finds files that were damaged or exchanged.

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace edgeunet::detail {

class Sha256 {
public:
    /// The hash of some bytes, in hexadecimal.
    static std::string of(std::string_view bytes) {
        Sha256 hash;
        const std::size_t whole = bytes.size() / block_size;
        for (std::size_t i = 0; i < whole; ++i) hash.add(bytes.data() + i * block_size);
        return hash.finish(bytes.substr(whole * block_size), bytes.size());
    }

private:
    static constexpr std::size_t block_size = 64;

    std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                           0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    static std::uint32_t turned(std::uint32_t value, int by) {
        return value >> by | value << (32 - by);
    }

    void add(const char* block) {
        static constexpr std::array<std::uint32_t, 64> constants = {
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
            0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
            0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
            0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
            0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
            0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
            0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
            0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
            0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
            0xc67178f2};
        std::array<std::uint32_t, 64> words{};
        for (std::size_t i = 0; i < 16; ++i) {
            for (std::size_t j = 0; j < 4; ++j) {
                words[i] = words[i] << 8 | static_cast<unsigned char>(block[4 * i + j]);
            }
        }
        for (std::size_t i = 16; i < 64; ++i) {
            const std::uint32_t a = words[i - 15], b = words[i - 2];
            words[i] = words[i - 16] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + words[i - 7] +
                       (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
        }
        auto [a, b, c, d, e, f, g, h] = state_;
        for (std::size_t i = 0; i < 64; ++i) {
            const std::uint32_t first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) +
                                        ((e & f) ^ (~e & g)) + constants[i] + words[i];
            const std::uint32_t second =
                (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + first;
            d = c, c = b, b = a, a = first + second;
        }
        const std::array<std::uint32_t, 8> more = {a, b, c, d, e, f, g, h};
        for (std::size_t i = 0; i < 8; ++i) state_[i] += more[i];
    }

    std::string finish(std::string_view rest, std::uint64_t size) {
        std::array<char, 2 * block_size> last{};
        if (!rest.empty()) std::memcpy(last.data(), rest.data(), rest.size());
        last[rest.size()] = static_cast<char>(0x80);
        const std::size_t used = rest.size() + 9 > block_size ? 2 * block_size : block_size;
        for (std::size_t i = 0; i < 8; ++i) {
            last[used - 1 - i] = static_cast<char>(8 * size >> (8 * i) & 0xFF);
        }
        for (std::size_t at = 0; at < used; at += block_size) add(last.data() + at);
        std::string text;
        for (const std::uint32_t word : state_) {
            for (int by = 28; by >= 0; by -= 4) text += "0123456789abcdef"[word >> by & 0xF];
        }
        return text;
    }
};

}  // namespace edgeunet::detail
