// Runs a segmentation net that edgeunet exported: frames in, masks out. C++17 and ONNX Runtime.
//
//     edgeunet::Segmenter net("model");
//     edgeunet::Mask mask = net(edgeunet::Frame(pixels, height, width));
//
// All errors are `edgeunet::Error`s and say in one line what came, what was expected and what to
// do.

#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "edgeunet/error.hpp"
#include "edgeunet/frame.hpp"
#include "edgeunet/manifest.hpp"
#include "edgeunet/masks.hpp"
#include "edgeunet/net.hpp"

namespace edgeunet {

/// threads: that one call uses for the net; 0 for all cores.
/// flavour: of the graph, "int8.cpu" or "fp32"; empty for the first of these that the folder holds.
struct Options {
    int threads = 0;
    std::string flavour = {};
};

/// A net with all that is around it: frames of any size in, class ids of the same size out.
///
/// Several threads may call one Segmenter at once. It can be moved, not copied.
class Segmenter {
public:
    /// Open the folder `model` that `edgeunet deploy` wrote, or a whole bundle.
    ///
    /// Hashes of the files that are loaded are compared with the manifest: this finds damage, but
    /// not a stranger who changes both. Throws a ModelError if the folder is no model, is damaged,
    /// or needs steps that this library lacks; a RuntimeError if ONNX Runtime does not load it.
    explicit Segmenter(const std::filesystem::path& folder, const Options& options = {})
        : state_(std::make_unique<State>(folder, options)) {}

    /// The mask of a frame. Throws a FrameError if the frame does not fit the net.
    Mask operator()(const Frame& frame) const {
        return std::move((*this)(std::vector<Frame>{frame}).front());
    }

    /// The masks of several frames, which may differ in size.
    ///
    /// They go through the net together, at most as many at once as the net allows.
    std::vector<Mask> operator()(const std::vector<Frame>& frames) const {
        std::vector<Mask> masks;
        const std::size_t most = static_cast<std::size_t>(manifest().max_batch);
        for (std::size_t first = 0; first < frames.size(); first += most) {
            segment(frames, first, std::min(most, frames.size() - first), masks);
        }
        return masks;
    }

    /// What the net is: its input, its classes and their colours.
    const Manifest& manifest() const { return state_->manifest; }

    /// Names by class id.
    const std::vector<std::string>& classes() const { return manifest().classes; }

    /// Of the graph that runs.
    const std::string& flavour() const { return state_->flavour; }

private:
    struct State {
        Manifest manifest;
        std::string flavour;
        detail::Net net;

        State(const std::filesystem::path& folder, const Options& options)
            : manifest(Manifest::read(folder)),
              flavour(chosen(manifest, folder, options)),
              net(folder, manifest, flavour, options.threads) {}
    };

    std::unique_ptr<State> state_;

    void segment(const std::vector<Frame>& frames, std::size_t first, std::size_t count,
                 std::vector<Mask>& masks) const {
        const Manifest& net = manifest();
        const std::size_t size = net.channels.size() * static_cast<std::size_t>(net.input.height) *
                                 static_cast<std::size_t>(net.input.width);
        std::vector<float> images(count * size);
        for (std::size_t i = 0; i < count; ++i) {
            detail::prepare(frames[first + i], net, images.data() + i * size);
        }
        const detail::Outputs outputs = state_->net.run(images, count);
        for (std::size_t i = 0; i < count; ++i) {
            const Size frame = frames[first + i].size();
            const float* presence = net.gate.empty() ? nullptr : outputs.presence[i];
            Mask mask{
                frame.height,
                frame.width,
                detail::decide(net, frame, outputs.logits[i], detail::candidates(net, presence)),
                {}};
            if (presence) mask.presence.assign(presence, presence + net.classes.size());
            masks.push_back(std::move(mask));
        }
    }

    /// The flavour to run, once it is known that ONNX Runtime and the folder have what it needs.
    static std::string chosen(const Manifest& manifest, const std::filesystem::path& folder,
                              const Options& options) {
        if (options.threads < 0) {
            throw Error(detail::text("got ", options.threads,
                                     " threads; expected 0 for all cores, "
                                     "or more."));
        }
        if (OrtGetApiBase()->GetApi(ORT_API_VERSION) == nullptr) {
            throw RuntimeError(detail::text("ONNX Runtime is ", OrtGetApiBase()->GetVersionString(),
                                            "; expected 1.", ORT_API_VERSION,
                                            " or newer, as of its "
                                            "headers that this program was compiled with."));
        }
        const std::string end = manifest.gate.empty() ? ".onnx" : ".encoder.onnx";
        for (const std::string flavour : {"int8.cpu", "fp32"}) {
            const bool held = manifest.files.count("model." + flavour + end) != 0;
            if (held && (options.flavour.empty() || options.flavour == flavour)) return flavour;
        }
        throw ModelError(
            detail::text(folder.string(), " holds no graph ",
                         options.flavour.empty() ? "int8.cpu or fp32" : options.flavour,
                         ". Deploy the bundle again with --flavour, or leave the "
                         "flavour out."));
    }
};

}  // namespace edgeunet
