// The graphs on ONNX Runtime. A gated net comes in two parts: the decoder runs where it is needed.

#pragma once

#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "manifest.hpp"
#include "masks.hpp"

namespace edgeunet::detail {

using Shape = std::vector<std::int64_t>;

inline std::string shown(const Shape& shape) {
    std::string all;
    for (const std::int64_t side : shape) {
        all += (all.empty() ? "" : ", ") + (side < 0 ? std::string("any") : std::to_string(side));
    }
    return "(" + all + ")";
}

/// ONNX Runtime without its reports to Microsoft, which releases since 1.29 make on all systems.
/// Elsewhere than on Windows it reads the variable once, before the first environment is made: the
/// API for this comes too late. Who sets it to 0 has reports.
inline Ort::Env quiet_environment() {
#ifdef _WIN32
    Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "edgeunet");
    env.DisableTelemetryEvents();
    return env;
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
    return Ort::Env(ORT_LOGGING_LEVEL_ERROR, "edgeunet");
#endif
}

/// Logits and presence of some frames. logits: nullptr for a frame that the gate alone decides.
struct Outputs {
    std::vector<const float*> logits, presence;
    std::vector<Ort::Value> owned;
};

/// One graph with the names of its ends.
class Graph {
public:
    Graph(const Ort::Env& env, const std::string& content, const std::string& name, int threads)
        : name_(name), session_(nullptr) {
        Ort::SessionOptions options;
        options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_ERROR);
        // It would take content with the mark of its own format for that, unchecked.
        options.AddConfigEntry("session.load_model_format", "ONNX");
        if (threads > 0) options.SetIntraOpNumThreads(threads);
        try {
            session_ = Ort::Session(env, content.data(), content.size(), options);
        } catch (const Ort::Exception& error) {
            throw RuntimeError(text("ONNX Runtime cannot load ", name, ": ", error.what()));
        }
        Ort::AllocatorWithDefaultOptions allocator;
        for (std::size_t i = 0; i < session_.GetInputCount(); ++i) {
            inputs_.emplace_back(session_.GetInputNameAllocated(i, allocator).get());
        }
        for (std::size_t i = 0; i < session_.GetOutputCount(); ++i) {
            outputs_.emplace_back(session_.GetOutputNameAllocated(i, allocator).get());
        }
    }

    /// Throws unless an input or output is float of this shape; sides that are -1 are any.
    void check_input(std::size_t index, const char* end, const Shape& wanted) const {
        check(end, wanted, index < inputs_.size(),
              [&] { return session_.GetInputTypeInfo(index); });
    }

    void check_output(std::size_t index, const char* end, const Shape& wanted) const {
        check(end, wanted, index < outputs_.size(),
              [&] { return session_.GetOutputTypeInfo(index); });
    }

    /// All outputs, in their order.
    std::vector<Ort::Value> run(const std::vector<Ort::Value>& inputs) {
        if (inputs.size() != inputs_.size()) {
            throw ModelError(text(name_, " has ", inputs_.size(), " inputs; expected ",
                                  inputs.size(), ". Copy the folder again."));
        }
        const auto pointers = [](const std::vector<std::string>& names) {
            std::vector<const char*> all;
            for (const std::string& each : names) all.push_back(each.c_str());
            return all;
        };
        try {
            return session_.Run(Ort::RunOptions{nullptr}, pointers(inputs_).data(), inputs.data(),
                                inputs.size(), pointers(outputs_).data(), outputs_.size());
        } catch (const Ort::Exception& error) {
            throw RuntimeError(text("ONNX Runtime failed on ", name_, ": ", error.what()));
        }
    }

private:
    std::string name_;
    Ort::Session session_;
    std::vector<std::string> inputs_, outputs_;

    void check(const char* end, const Shape& wanted, bool exists,
               const std::function<Ort::TypeInfo()>& info) const {
        std::string found = "none";
        if (exists) {
            const Ort::TypeInfo type = info();
            const auto tensor = type.GetTensorTypeAndShapeInfo();
            const Shape shape = tensor.GetShape();
            const auto fits = [](std::int64_t side, std::int64_t want) {
                return side < 0 || want < 0 || side == want;
            };
            if (tensor.GetElementType() == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT &&
                std::equal(shape.begin(), shape.end(), wanted.begin(), wanted.end(), fits)) {
                return;
            }
            found = shown(shape);
        }
        throw ModelError(text(name_, ": expected ", end, " float ", shown(wanted),
                              ", the graph has ", found, ". Deploy the bundle again."));
    }
};

/// Frames `first` to `first + count` of a tensor, without a copy.
inline Ort::Value part(Ort::Value& whole, std::size_t first, std::size_t count) {
    const auto info = whole.GetTensorTypeAndShapeInfo();
    Shape shape = info.GetShape();
    const std::size_t frames = static_cast<std::size_t>(shape.at(0));
    // Of the types that features have. ONNX Runtime's own table of sizes is not in its API.
    std::size_t bytes = 0;
    switch (info.GetElementType()) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: bytes = sizeof(float); break;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: bytes = 1; break;
        default:
            throw ModelError("the encoder gives features of an unknown type. Deploy it again.");
    }
    bytes *= info.GetElementCount() / frames;
    shape[0] = static_cast<std::int64_t>(count);
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    char* data = static_cast<char*>(whole.GetTensorMutableRawData());
    return Ort::Value::CreateTensor(memory, data + first * bytes, count * bytes, shape.data(),
                                    shape.size(), info.GetElementType());
}

/// A whole net. Threads may call it at once, as ONNX Runtime allows.
class Net {
public:
    Net(const std::filesystem::path& folder, const Manifest& manifest, const std::string& flavour,
        int threads)
        : manifest_(manifest), env_(quiet_environment()) {
        const std::int64_t classes = static_cast<std::int64_t>(manifest.classes.size());
        const Shape logits = {-1, classes, manifest.logits.height, manifest.logits.width};
        const Shape presence = {-1, classes};
        const auto open = [&](const std::string& name) {
            graphs_.emplace_back(env_, read_checked(folder, name, manifest.files),
                                 (folder / name).string(), threads);
        };
        if (manifest.gate.empty()) {
            open("model." + flavour + ".onnx");
            graphs_[0].check_output(0, "logits", logits);
        } else {
            open("model." + flavour + ".encoder.onnx");
            open("model." + flavour + ".decoder.onnx");
            graphs_[0].check_output(0, "presence", presence);
            graphs_[1].check_output(0, "logits", logits);
        }
        graphs_[0].check_input(0, "image",
                               {-1, static_cast<std::int64_t>(manifest.channels.size()),
                                manifest.input.height, manifest.input.width});
    }

    /// images: (count, channels, height, width).
    Outputs run(std::vector<float>& images, std::size_t count) {
        const Shape shape = {static_cast<std::int64_t>(count),
                             static_cast<std::int64_t>(manifest_.channels.size()),
                             manifest_.input.height, manifest_.input.width};
        const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
        std::vector<Ort::Value> inputs;
        inputs.push_back(Ort::Value::CreateTensor<float>(memory, images.data(), images.size(),
                                                         shape.data(), shape.size()));
        std::vector<Ort::Value> found = graphs_[0].run(inputs);
        const std::size_t classes = manifest_.classes.size();
        Outputs out;
        if (manifest_.gate.empty()) {
            out.logits.resize(count);
            add_logits(out, 0, count, std::move(found[0]));
            return out;
        }
        need_size(found[0], count * classes, "presence");
        const float* presence = found[0].GetTensorData<float>();
        for (std::size_t i = 0; i < count; ++i) out.presence.push_back(presence + i * classes);
        out.logits.resize(count);
        for (std::size_t i = 0; i < count;) {
            std::size_t end = i;
            while (end < count && candidates(manifest_, out.presence[end]).size() > 1) ++end;
            if (end > i) decode(found, i, end - i, out);
            i = end + 1;
        }
        out.owned.push_back(std::move(found[0]));
        return out;
    }

private:
    const Manifest& manifest_;
    Ort::Env env_;
    std::vector<Graph> graphs_;

    void decode(std::vector<Ort::Value>& found, std::size_t first, std::size_t count,
                Outputs& out) {
        std::vector<Ort::Value> features;
        for (std::size_t i = 1; i < found.size(); ++i) {
            features.push_back(part(found[i], first, count));
        }
        add_logits(out, first, count, std::move(graphs_[1].run(features)[0]));
    }

    void add_logits(Outputs& out, std::size_t first, std::size_t count, Ort::Value value) const {
        const std::size_t size = manifest_.classes.size() *
                                 static_cast<std::size_t>(manifest_.logits.height) *
                                 static_cast<std::size_t>(manifest_.logits.width);
        need_size(value, count * size, "logits");
        const float* logits = value.GetTensorData<float>();
        for (std::size_t i = 0; i < count; ++i) out.logits[first + i] = logits + i * size;
        out.owned.push_back(std::move(value));
    }

    /// Sides that a graph leaves open are known when it has run.
    static void need_size(const Ort::Value& value, std::size_t wanted, const char* name) {
        const auto info = value.GetTensorTypeAndShapeInfo();
        if (info.GetElementCount() == wanted) return;
        throw ModelError(text("the graph gives ", name, " ", shown(info.GetShape()),
                              ", which are no ", wanted,
                              " values: it does not fit its manifest. Deploy the bundle again."));
    }
};

}  // namespace edgeunet::detail
