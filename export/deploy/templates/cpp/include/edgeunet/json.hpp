// JSON of a manifest (RFC 8259), within bounds: who made a file may be unknown.

#pragma once

#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <locale>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "error.hpp"

namespace edgeunet::json {

/// A value. Whoever asks it for another kind than it has gets a ModelError with its place.
class Value {
public:
    enum class Kind { null, boolean, number, text, list, object };

    Kind kind = Kind::null;
    bool truth = false;
    double real = 0;
    std::string string;
    std::vector<Value> items;
    std::vector<std::string> keys;  ///< of `items`, if it is an object
    std::string place;              ///< such as "input.height"

    bool is_null() const { return kind == Kind::null; }

    double number() const { return need(Kind::number, "a number").real; }

    const std::string& text() const { return need(Kind::text, "a text").string; }

    const std::vector<Value>& list() const { return need(Kind::list, "a list").items; }

    /// A whole number from `least` to `most`.
    int integer(int least, int most) const {
        const double value = number();
        if (value < least || value > most || value != std::floor(value)) {
            throw ModelError(detail::text(place, ": expected a whole number from ", least, " to ",
                                          most, ", got ", value));
        }
        return static_cast<int>(value);
    }

    std::vector<double> numbers() const {
        std::vector<double> found;
        for (const Value& each : list()) found.push_back(each.number());
        return found;
    }

    std::vector<std::string> texts() const {
        std::vector<std::string> found;
        for (const Value& each : list()) found.push_back(each.text());
        return found;
    }

    /// The value of a key; nullptr if there is none.
    const Value* find(std::string_view key) const {
        need(Kind::object, "an object");
        for (std::size_t i = 0; i < keys.size(); ++i) {
            if (keys[i] == key) return &items[i];
        }
        return nullptr;
    }

    const Value& operator[](std::string_view key) const {
        if (const Value* found = find(key)) return *found;
        throw ModelError(detail::text(place.empty() ? "the file" : place, " lacks ", key));
    }

private:
    const Value& need(Kind wanted, const char* name) const {
        if (kind == wanted) return *this;
        throw ModelError(detail::text(place.empty() ? "the file" : place, ": expected ", name));
    }
};

namespace detail {

constexpr int max_depth = 20;

class Parser {
public:
    explicit Parser(std::string_view text) : text_(text) {
        if (text_.substr(0, 3) == "\xEF\xBB\xBF") at_ = 3;  // some editors write a mark
    }

    Value parse() {
        Value value = any("", 0);
        skip_space();
        if (at_ != text_.size()) fail("more than one value");
        return value;
    }

private:
    std::string_view text_;
    std::size_t at_ = 0;

    [[noreturn]] void fail(const char* what) const {
        throw ModelError(edgeunet::detail::text("is no JSON: ", what, " at byte ", at_));
    }

    char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

    bool take(char wanted) {
        if (peek() != wanted || at_ == text_.size()) return false;
        ++at_;
        return true;
    }

    void skip_space() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos) {
            ++at_;
        }
    }

    Value any(const std::string& place, int depth) {
        if (depth > max_depth) fail("it is nested too deeply");
        skip_space();
        Value value;
        value.place = place;
        if (peek() == '{') {
            object(value, depth);
        } else if (peek() == '[') {
            list(value, depth);
        } else if (peek() == '"') {
            value.kind = Value::Kind::text;
            value.string = string();
        } else if (word("true") || word("false")) {
            value.kind = Value::Kind::boolean;
            value.truth = text_[at_ - 2] == 'u';
        } else if (!word("null")) {
            value.kind = Value::Kind::number;
            value.real = number();
        }
        return value;
    }

    bool word(std::string_view wanted) {
        if (text_.substr(at_, wanted.size()) != wanted) return false;
        at_ += wanted.size();
        return true;
    }

    void object(Value& value, int depth) {
        value.kind = Value::Kind::object;
        take('{');
        skip_space();
        if (take('}')) return;
        do {
            skip_space();
            if (peek() != '"') fail("a key is missing");
            value.keys.push_back(string());
            skip_space();
            if (!take(':')) fail("':' is missing");
            const std::string& key = value.keys.back();
            value.items.push_back(
                any(value.place.empty() ? key : value.place + "." + key, depth + 1));
            skip_space();
        } while (take(','));
        if (!take('}')) fail("'}' is missing");
    }

    void list(Value& value, int depth) {
        value.kind = Value::Kind::list;
        take('[');
        skip_space();
        if (take(']')) return;
        do {
            const std::string index = "[" + std::to_string(value.items.size()) + "]";
            value.items.push_back(any(value.place + index, depth + 1));
            skip_space();
        } while (take(','));
        if (!take(']')) fail("']' is missing");
    }

    double number() {
        const std::size_t start = at_;
        while (at_ < text_.size() && (std::isdigit(static_cast<unsigned char>(text_[at_])) ||
                                      std::string_view("+-.eE").find(text_[at_]) != text_.npos)) {
            ++at_;
        }
        std::istringstream stream{std::string(text_.substr(start, at_ - start))};
        stream.imbue(std::locale::classic());  // the program's own may want a decimal comma
        double value = 0;
        if (!(stream >> value) || stream.peek() != EOF) {
            at_ = start;
            fail("no value");
        }
        return value;
    }

    std::string string() {
        take('"');
        std::string out;
        while (!take('"')) {
            if (at_ == text_.size()) fail("a text does not end");
            const char next = text_[at_++];
            if (static_cast<unsigned char>(next) < 0x20) fail("a control character in a text");
            if (next == '\\') {
                escape(out);
            } else {
                out += next;
            }
        }
        return out;
    }

    void escape(std::string& out) {
        const std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
        const char name = peek();
        ++at_;
        if (const std::size_t found = names.find(name); found != names.npos) {
            out += values[found];
            return;
        }
        if (name != 'u') fail("an unknown escape");
        std::uint32_t code = hexadecimal();
        if (code >= 0xD800 && code < 0xDC00 && word("\\u")) {  // two halves of one character
            code = 0x10000 + ((code - 0xD800) << 10) + ((hexadecimal() - 0xDC00) & 0x3FF);
        }
        append_utf8(out, code);
    }

    std::uint32_t hexadecimal() {
        std::uint32_t code = 0;
        for (int i = 0; i < 4; ++i, ++at_) {
            const std::size_t digit =
                std::string_view("0123456789abcdef")
                    .find(static_cast<char>(std::tolower(static_cast<unsigned char>(peek()))));
            if (digit == std::string_view::npos) fail("an unknown escape");
            code = code * 16 + static_cast<std::uint32_t>(digit);
        }
        return code;
    }

    static void append_utf8(std::string& out, std::uint32_t code) {
        if (code < 0x80) {
            out += static_cast<char>(code);
            return;
        }
        const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        const std::uint32_t lead = more == 1 ? 0xC0 : more == 2 ? 0xE0 : 0xF0;
        out += static_cast<char>(lead | code >> (6 * more));
        for (int i = more - 1; i >= 0; --i)
            out += static_cast<char>(0x80 | (code >> (6 * i) & 0x3F));
    }
};

}  // namespace detail

/// Parse a text; a ModelError continues a sentence that begins with the file's name.
inline Value parse(std::string_view text) { return detail::Parser(text).parse(); }

}  // namespace edgeunet::json
