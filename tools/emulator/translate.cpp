// The few things of CUDA C++ that no header can give g++: shared memory, inline PTX, and which function is the kernel.
#include "translate.h"

#include <cctype>
#include <regex>
#include <stdexcept>
#include <vector>

namespace emulator {
namespace {

bool is_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// The end of what begins at `at`, up to one of `ends` outside of brackets and strings.
std::size_t end_of(std::string const& text, std::size_t at, char const* ends) {
    int depth = 0;
    for (; at < text.size(); at++) {
        char c = text[at];
        if (c == '"') {
            while (text[++at] != '"') at += text[at] == '\\';
        } else if (!depth && std::string(ends).find(c) != std::string::npos) {
            return at;
        } else if (c == '(' || c == '{' || c == '[') {
            depth++;
        } else if (c == ')' || c == '}' || c == ']') {
            depth--;
        }
    }
    throw std::runtime_error("inline PTX without an end");
}

// The expressions of a list `"=r"(a), "=r"(b)`.
std::vector<std::string> operands(std::string const& list) {
    std::vector<std::string> found;
    for (std::size_t at = list.find('"'); at != std::string::npos; at = list.find('"', at)) {
        std::size_t open = list.find('(', list.find('"', at + 1));
        std::size_t close = end_of(list, open + 1, ")");
        found.push_back(list.substr(open + 1, close - open - 1));
        at = close;
    }
    return found;
}

// `mma.sync.m16n8k16 {%0, %1}, [%2], 16;` becomes `ptx_mma_sync_m16n8k16(a, b, c, 16);`: a function of the prelude, or an error of g++
// that says which is missing.
std::string call(std::string ptx, std::vector<std::string> const& values) {
    if (ptx.find("elect.sync") != std::string::npos) return "ptx_elect_sync(" + values.at(0) + ")";
    std::size_t at = ptx.find_first_of(" ;");
    std::string name = "ptx_";
    for (std::size_t i = 0; i < at; i++) name += is_name(ptx[i]) ? ptx[i] : '_';
    std::string arguments;
    while (at < ptx.size()) {
        std::string argument;
        if (ptx[at] == '%' && std::isdigit(static_cast<unsigned char>(ptx[at + 1]))) {
            std::size_t index = 0;
            for (at++; at < ptx.size() && std::isdigit(static_cast<unsigned char>(ptx[at])); at++) index = 10 * index + (ptx[at] - '0');
            argument = values.at(index);
        } else if (is_name(ptx[at])) {
            for (; at < ptx.size() && is_name(ptx[at]); at++) argument += ptx[at];
        } else {
            at++;
            continue;
        }
        arguments += (arguments.empty() ? "" : ", ") + argument;
    }
    return name + "(" + arguments + ")";
}

// `asm volatile("..." : outputs : inputs : clobbers)`.
std::string without_ptx(std::string const& source) {
    std::string result;
    std::size_t done = 0;
    for (std::size_t at = source.find("asm"); at != std::string::npos; at = source.find("asm", at + 1)) {
        if (is_name(source[at - 1]) || is_name(source[at + 3])) continue;
        std::size_t open = source.find('(', at);
        std::size_t first = source.find('"', open) + 1;
        std::size_t last = first;
        while (source[last] != '"') last += source[last] == '\\' ? 2 : 1;
        std::vector<std::string> values;
        std::size_t section = end_of(source, last + 1, ":)");
        for (int part = 0; part < 2 && source[section] == ':'; part++) {
            // `::` inside of an expression is a name's.
            std::size_t next = section + 1;
            do next = end_of(source, next, ":)");
            while (source[next] == ':' && source[next + 1] == ':' && (next += 2));
            for (auto& value : operands(source.substr(section + 1, next - section - 1))) values.push_back(value);
            section = next;
        }
        std::size_t close = source[section] == ')' ? section : end_of(source, section + 1, ")");
        result += source.substr(done, at - done) + call(source.substr(first, last - first), values);
        done = close + 1;
    }
    return result + source.substr(done);
}

}  // namespace

std::string kernel_name(std::string const& source) {
    static std::regex const kernel("__global__\\s+\\w+\\s+(__launch_bounds__\\([^)]*\\)\\s*)?(__cluster_dims__\\([^)]*\\)\\s*)?(\\w+)\\s*\\(");
    std::smatch found;
    return std::regex_search(source, found, kernel) ? found[3].str() : "";
}

std::string translate(std::string const& source) {
    static std::regex const include("#include\\s*[<\"][^>\"]*[>\"]");
    static std::regex const shared("extern\\s+__shared__\\s+(__align__\\(\\d+\\)\\s+)?char\\s+(\\w+)\\s*\\[\\s*\\]\\s*;");
    static std::regex const waits("_sync\\(|__syncthreads|__syncwarp|barrier|asm");

    std::string name = kernel_name(source);
    if (name.empty()) throw std::runtime_error("no kernel");
    bool any_wait = std::regex_search(source, waits);

    std::string text = std::regex_replace(source, include, "");
    text = std::regex_replace(text, shared, "char* const $2 = ::emulator::current->shared;");
    text = without_ptx(text);
    // In a namespace, the kernel's own `uint64_t` and the prelude's `exp` come before those of the C library.
    return "namespace kernel {\n#line 1\n" + text + "\n}\nextern \"C\" void emulator_run(emulator::Thread* thread, void** arguments) { emulator::run(thread, arguments, kernel::" +
           name + "); }\nextern \"C\" bool const emulator_waits = " + (any_wait ? "true" : "false") + ";\n";
}

}  // namespace emulator
