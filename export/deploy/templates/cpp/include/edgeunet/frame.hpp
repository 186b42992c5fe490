// Frames of any size -> the net's input, as edgeunet's own runtime computes it.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "manifest.hpp"
#include "resample.hpp"

namespace edgeunet {

/// A picture that the caller owns: rows of pixels, whose channels lie side by side.
///
/// Channels are red, green, blue, or gray alone, or red, green, blue, alpha, of which alpha is not
/// used. Nets of other channels take their own, in the manifest's order. OpenCV has blue, green,
/// red: `cv::cvtColor(image, image, cv::COLOR_BGR2RGB)`.
class Frame {
public:
    /// row_bytes: from one row to the next; 0 if nothing lies between them.
    template <typename T>
    Frame(const T* data, int height, int width, int channels = 3, std::size_t row_bytes = 0)
        : data_(data),
          size_{height, width},
          channels_(channels),
          row_bytes_(row_bytes != 0 || width < 0 || channels < 0
                         ? row_bytes
                         : sizeof(T) * static_cast<std::size_t>(width) *
                               static_cast<std::size_t>(channels)),
          value_bytes_(sizeof(T)),
          depth_(depth_of<T>()) {}

    Size size() const { return size_; }
    int channels() const { return channels_; }
    Depth depth() const { return depth_; }

    /// The values of a row. T: of the frame's depth.
    template <typename T>
    const T* row(int index) const {
        const auto* bytes = static_cast<const unsigned char*>(data_);
        return reinterpret_cast<const T*>(bytes + row_bytes_ * static_cast<std::size_t>(index));
    }

    /// Throws a FrameError unless there are pixels to read, and rows do not overlap.
    void check() const {
        const std::string shape = detail::text(size_.height, "x", size_.width, "x", channels_);
        if (data_ == nullptr || size_.height < 1 || size_.width < 1 || channels_ < 1) {
            throw FrameError(detail::text("frame is ", shape,
                                          data_ == nullptr ? " without data" : "",
                                          "; expected height x width x channels, all at least 1."));
        }
        const std::size_t needed = value_bytes_ * static_cast<std::size_t>(size_.width) *
                                   static_cast<std::size_t>(channels_);
        if (row_bytes_ < needed || row_bytes_ % value_bytes_ != 0) {
            throw FrameError(detail::text("frame of ", shape, " has rows of ", row_bytes_,
                                          " bytes; expected a multiple of ", value_bytes_,
                                          ", at least ", needed, "."));
        }
    }

private:
    const void* data_;
    Size size_;
    int channels_;
    std::size_t row_bytes_;
    std::size_t value_bytes_;
    Depth depth_;

    template <typename T>
    static constexpr Depth depth_of() {
        if constexpr (std::is_same_v<T, std::uint8_t>) return Depth::uint8;
        if constexpr (std::is_same_v<T, std::uint16_t>) return Depth::uint16;
        if constexpr (std::is_same_v<T, std::int16_t>) return Depth::int16;
        static_assert(std::is_same_v<T, std::uint8_t> || std::is_same_v<T, std::uint16_t> ||
                          std::is_same_v<T, std::int16_t> || std::is_same_v<T, float>,
                      "values of a frame are std::uint8_t, std::uint16_t, std::int16_t or float");
        return Depth::float32;
    }
};

namespace detail {

inline const char* name_of(Depth depth) {
    switch (depth) {
        case Depth::uint8: return "uint8";
        case Depth::uint16: return "uint16";
        case Depth::int16: return "int16";
        case Depth::float32: break;
    }
    return "float32";
}

inline std::string joined(const std::vector<std::string>& names) {
    std::string all;
    for (const std::string& name : names) all += all.empty() ? name : ", " + name;
    return all;
}

/// Which channel of a frame is each of the net's; `luma` stands for gray that is computed from RGB.
constexpr int luma = -1;

inline std::vector<int> channels_for(const Frame& frame, const Manifest& net) {
    const std::vector<std::string> rgb = {"red", "green", "blue"};
    const int count = frame.channels();
    const bool gray = net.channels == std::vector<std::string>{"gray"};
    std::vector<int> found;
    for (const std::string& name : net.channels) {
        const auto at = std::find(rgb.begin(), rgb.end(), name);
        if (at != rgb.end()) found.push_back(static_cast<int>(at - rgb.begin()));
    }
    if (found.size() == net.channels.size()) {  // red, green and blue in any order
        if (count == 1) return std::vector<int>(found.size(), 0);
        if (count == 3 || count == 4) return found;
        throw FrameError(text("frame has ", count, " channels; expected 3, ", joined(rgb),
                              ", or 1 of gray, or 4 with alpha."));
    }
    if (gray && (count == 3 || count == 4) && net.depth == Depth::uint8) return {luma};
    if (count != static_cast<int>(net.channels.size())) {
        throw FrameError(text("frame has ", count, " channels; the net takes ", net.channels.size(),
                              ": ", joined(net.channels), "."));
    }
    found.resize(net.channels.size());
    for (std::size_t i = 0; i < found.size(); ++i) found[i] = static_cast<int>(i);
    return found;
}

/// Luma of 8-bit RGB: ITU-R BT.601, rounded as OpenCV does. out: (height, width).
inline std::vector<std::uint8_t> gray_of(const Frame& frame) {
    const auto [height, width] = frame.size();
    std::vector<std::uint8_t> out;
    out.reserve(static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
    for (int y = 0; y < height; ++y) {
        const std::uint8_t* pixel = frame.row<std::uint8_t>(y);
        for (int x = 0; x < width; ++x, pixel += frame.channels()) {
            const int sum = 9798 * pixel[0] + 19235 * pixel[1] + 3735 * pixel[2];
            out.push_back(static_cast<std::uint8_t>((sum + (1 << 14)) >> 15));
        }
    }
    return out;
}

/// One channel of a frame, resized and normalised, into a plane of the net's input.
template <typename T>
void prepare_channel(const Frame& frame, int channel, const Manifest& net, std::size_t plane,
                     const Box& box, const Resampler& resampler, float* out) {
    const float gain = net.gain[plane], shift = net.shift[plane];
    const std::size_t pitch = static_cast<std::size_t>(net.input.width);
    float* first =
        out + static_cast<std::size_t>(box.top) * pitch + static_cast<std::size_t>(box.left);
    const auto row = [&](int y) { return frame.row<T>(y) + channel; };
    resampler.run<T>(row, frame.channels(), [&](int y, const float* values) {
        float* target = first + static_cast<std::size_t>(y) * pitch;
        for (int x = 0; x < box.size.width; ++x) target[x] = values[x] * gain + shift;
    });
}

/// A frame into `out`, (channels, height, width) of the net.
inline void prepare(const Frame& frame, const Manifest& net, float* out) {
    frame.check();
    if (frame.depth() != net.depth) {
        throw FrameError(text("frame is ", name_of(frame.depth()), "; the net takes ",
                              name_of(net.depth), ". Convert it first."));
    }
    const std::vector<int> channels = channels_for(frame, net);
    if (channels.front() == luma) {
        const std::vector<std::uint8_t> gray = gray_of(frame);
        prepare(Frame(gray.data(), frame.size().height, frame.size().width, 1), net, out);
        return;
    }
    const Box box = net.place(frame.size());
    const Resampler resampler(net.filter, frame.size(), box.size);
    const std::size_t pixels =
        static_cast<std::size_t>(net.input.height) * static_cast<std::size_t>(net.input.width);
    for (std::size_t plane = 0; plane < channels.size(); ++plane, out += pixels) {
        if (!(box.size == net.input)) std::fill_n(out, pixels, net.padding[plane]);
        const auto fill = [&](auto type) {
            prepare_channel<decltype(type)>(frame, channels[plane], net, plane, box, resampler,
                                            out);
        };
        switch (net.depth) {
            case Depth::uint8: fill(std::uint8_t{}); break;
            case Depth::uint16: fill(std::uint16_t{}); break;
            case Depth::int16: fill(std::int16_t{}); break;
            case Depth::float32: fill(float{}); break;
        }
    }
}

}  // namespace detail
}  // namespace edgeunet
