// check MODEL GOLDEN [THREADS]: compares masks with those of edgeunet's own runtime, and times
// them.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "edgeunet.hpp"

namespace {

using edgeunet::Depth;
using edgeunet::Frame;
using edgeunet::Mask;

/// Frames and the masks that they should get, as raw files; golden.json says their shape.
struct Golden {
    std::string frames, masks;
    std::size_t count = 0;
    int height = 0, width = 0, channels = 0;

    explicit Golden(const std::string& folder) {
        namespace json = edgeunet::json;
        const json::Value shape = json::parse(read(folder, "golden.json"));
        count = static_cast<std::size_t>(shape["count"].integer(1, 1 << 20));
        height = shape["height"].integer(1, 1 << 20);
        width = shape["width"].integer(1, 1 << 20);
        channels = shape["channels"].integer(1, 64);
        frames = read(folder, "frames.raw");
        masks = read(folder, "masks.raw");
    }

    std::size_t pixels() const {
        return static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
    }

    template <typename T>
    std::vector<Frame> views() const {
        const std::size_t values = pixels() * static_cast<std::size_t>(channels);
        if (frames.size() != count * values * sizeof(T) || masks.size() != count * pixels()) {
            throw edgeunet::Error(
                "golden.json does not fit frames.raw and masks.raw. Copy it again.");
        }
        const T* first = reinterpret_cast<const T*>(frames.data());
        std::vector<Frame> all;
        for (std::size_t i = 0; i < count; ++i) {
            all.emplace_back(first + i * values, height, width, channels);
        }
        return all;
    }

private:
    static std::string read(const std::string& folder, const std::string& name) {
        return edgeunet::detail::read_file(folder, name, std::uintmax_t{1} << 30);
    }
};

std::vector<Frame> views(const Golden& golden, Depth depth) {
    switch (depth) {
        case Depth::uint8: return golden.views<std::uint8_t>();
        case Depth::uint16: return golden.views<std::uint16_t>();
        case Depth::int16: return golden.views<std::int16_t>();
        case Depth::float32: break;
    }
    return golden.views<float>();
}

int check(const std::string& model, const std::string& folder, int threads) {
    edgeunet::Options options;
    options.threads = threads;
    const edgeunet::Segmenter net(model, options);
    const Golden golden(folder);
    const std::vector<Frame> frames = views(golden, net.manifest().depth);
    const std::vector<Mask> masks = net(frames);

    std::size_t equal = 0;
    for (std::size_t i = 0; i < frames.size(); ++i) {
        for (std::size_t at = 0; at < golden.pixels(); ++at) {
            const char wanted = golden.masks[i * golden.pixels() + at];
            equal += masks[i].ids[at] == static_cast<std::uint8_t>(wanted);
        }
    }
    std::vector<double> seconds;
    for (int i = 0; i < 11; ++i) {
        const auto start = std::chrono::steady_clock::now();
        net(frames[static_cast<std::size_t>(i) % frames.size()]);
        seconds.push_back(
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::sort(seconds.begin(), seconds.end());

    const double share = static_cast<double>(equal) / static_cast<double>(golden.masks.size());
    const double wanted = net.flavour() == "fp32" ? 0.999 : 0.99;
    std::cout << std::fixed << std::setprecision(3) << net.manifest().model << ", " << net.flavour()
              << ": " << 100 * share << "% of " << golden.masks.size()
              << " pixels as edgeunet's own "
              << "runtime, expected " << std::setprecision(1) << 100 * wanted << "%; "
              << std::setprecision(2) << 1000 * seconds[seconds.size() / 2] << " ms for a frame of "
              << golden.height << "x" << golden.width << "\n";
    return share >= wanted ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3 || count > 4) {
        std::cerr << "usage: check MODEL GOLDEN [THREADS]\n";
        return 2;
    }
    try {
        return check(arguments[1], arguments[2], count == 4 ? std::atoi(arguments[3]) : 0);
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return 2;
    }
}
