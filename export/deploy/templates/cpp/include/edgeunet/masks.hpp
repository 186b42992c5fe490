// Logits at the net's resolution -> class ids at the frame's: gate, upsampling and argmax.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "manifest.hpp"
#include "resample.hpp"

namespace edgeunet {

/// The class of each pixel of a frame.
struct Mask {
    int height = 0;
    int width = 0;
    std::vector<std::uint8_t> ids;  ///< class ids, row by row
    std::vector<float>
        presence;  ///< probability that a class is in the frame; empty without a gate

    std::uint8_t operator()(int row, int column) const {
        return ids[static_cast<std::size_t>(row) * static_cast<std::size_t>(width) +
                   static_cast<std::size_t>(column)];
    }
};

namespace detail {

/// Ids that a frame's pixels may have, ascending: those that the gate leaves open, or else class 0.
inline std::vector<std::uint8_t> candidates(const Manifest& net, const float* presence) {
    std::vector<std::uint8_t> ids;
    for (std::size_t id = 0; id < net.classes.size(); ++id) {
        if (net.gate.empty() || presence[id] >= net.gate[id]) {
            ids.push_back(static_cast<std::uint8_t>(id));
        }
    }
    if (ids.empty()) ids.push_back(0);
    return ids;
}

/// Where values are larger than the best so far, they and their id take its place.
///
/// Ids ascend, so the later winner is the larger one. In this form, without a choice of what to
/// store, and with ids as floats, compilers make vector code of it, which is several times as fast.
inline void take_larger(const float* values, float id, std::vector<float>& best,
                        std::vector<float>& chosen) {
    float *largest = best.data(), *ids = chosen.data();
    for (std::size_t x = 0, width = best.size(); x < width; ++x) {
        const float better = values[x] > largest[x] ? id : 0.0f;
        ids[x] = std::max(ids[x], better);
        largest[x] = std::max(largest[x], values[x]);
    }
}

/// The largest of the candidates at each pixel; the lower id wins if they are equal.
///
/// logits: (classes, h, w); not read if there is one candidate.
inline std::vector<std::uint8_t> decide(const Manifest& net, Size frame, const float* logits,
                                        const std::vector<std::uint8_t>& ids) {
    const std::size_t width = static_cast<std::size_t>(frame.width);
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(frame.height) * width, ids.front());
    if (ids.size() == 1) return mask;
    const Box box = net.covered(frame);
    const Resampler resampler(Filter::bilinear, box.size, frame);
    const std::size_t pitch = static_cast<std::size_t>(net.logits.width);
    const std::size_t plane = pitch * static_cast<std::size_t>(net.logits.height);
    const std::size_t first =
        static_cast<std::size_t>(box.top) * pitch + static_cast<std::size_t>(box.left);
    const auto rows_of = [&](std::uint8_t id) {
        const float* values = logits + id * plane + first;
        return [=](int y) { return values + static_cast<std::size_t>(y) * pitch; };
    };
    using Lines = Resampler::Lines<float, float, decltype(rows_of(0))>;
    std::vector<Lines> lines;
    for (const std::uint8_t id : ids) lines.emplace_back(resampler, rows_of(id), 1);
    std::vector<float> best(width), chosen(width);
    for (std::uint8_t* out = mask.data(); out != mask.data() + mask.size(); out += width) {
        std::copy_n(lines[0].next(), width, best.data());
        std::fill(chosen.begin(), chosen.end(), static_cast<float>(ids[0]));
        for (std::size_t i = 1; i < ids.size(); ++i) {
            take_larger(lines[i].next(), static_cast<float>(ids[i]), best, chosen);
        }
        for (std::size_t x = 0; x < width; ++x) out[x] = static_cast<std::uint8_t>(chosen[x]);
    }
    return mask;
}

}  // namespace detail
}  // namespace edgeunet
