// segment MODEL IMAGE...: writes the mask of each PGM or PPM beside it, class ids as gray levels.

#include <cstdint>
#include <cstdlib>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

#include "edgeunet.hpp"
#include "pnm.hpp"

namespace {

edgeunet::Frame frame_of(const pnm::Image& image) {
    if (!image.words.empty()) {
        return {image.words.data(), image.height, image.width, image.channels};
    }
    return {image.bytes.data(), image.height, image.width, image.channels};
}

void segment(const edgeunet::Segmenter& net, const std::string& path) {
    const pnm::Image image = pnm::read(path);
    const edgeunet::Mask mask = net(frame_of(image));
    const std::string target = path.substr(0, path.rfind('.')) + ".mask.pgm";
    pnm::write(target, {mask.height, mask.width, 1, mask.ids, {}});

    std::vector<std::size_t> pixels(net.classes().size());
    for (const std::uint8_t id : mask.ids) ++pixels[id];
    std::cout << target << ":" << std::fixed << std::setprecision(1);
    for (std::size_t id = 0; id < pixels.size(); ++id) {
        const double share = static_cast<double>(pixels[id]) / static_cast<double>(mask.ids.size());
        if (pixels[id] > 0) std::cout << " " << net.classes()[id] << " " << 100 * share << "%";
    }
    std::cout << "\n";
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 3) {
        std::cerr << "usage: segment MODEL IMAGE...\n";
        return 2;
    }
    try {
        const edgeunet::Segmenter net(arguments[1]);
        for (int i = 2; i < count; ++i) segment(net, arguments[i]);
    } catch (const std::exception& error) {
        std::cerr << error.what() << "\n";
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
