// Errors: each says what came, what was expected and what to do, in one line.

#pragma once

#include <locale>
#include <sstream>
#include <stdexcept>
#include <string>

namespace edgeunet {

/// What all errors of this library are.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

/// A folder that is no model, is damaged, or needs what this library lacks.
struct ModelError : Error {
    using Error::Error;
};

/// A frame that does not fit the net.
struct FrameError : Error {
    using Error::Error;
};

/// ONNX Runtime cannot load or run a graph.
struct RuntimeError : Error {
    using Error::Error;
};

namespace detail {

/// All arguments as one text.
template <typename... Parts>
std::string text(const Parts&... parts) {
    std::ostringstream out;
    out.imbue(std::locale::classic());
    (out << ... << parts);
    return out.str();
}

}  // namespace detail
}  // namespace edgeunet
