/* Powers as operators of PyTorch, against its stable interface; kernels/power.py defines them.
 *
 * Weights are one row for all nodes, a row for each node, or, where elements have numbers, a row for
 * each element. Tables are tensors too, so that a graph needs nothing that only this process knows.
 */
#include <algorithm>
#include <tuple>
#include <vector>

#include "power.h"
#include "tensors.h"

namespace {

constexpr int32_t kChunk = 256; /* nodes whose features stay in the second cache level */
constexpr int kDim = 0, kOut = 1, kNumel = 2, kMonomials = 3, kPairs = 4, kTerms = 5, kShorts = 6, kRuns = 7;
constexpr int kVersion = kTerms; /* of steps */
constexpr int32_t kStepsVersion = 2; /* as in kernels/on_cpu/polynomial.py */

void fits(const char *name, const Tensor &given, int64_t rows, int64_t width, const Tensor &like) {
    STD_TORCH_CHECK(given.dim() == 2 && given.size(0) == rows && given.size(1) == width &&
                        given.scalar_type() == like.scalar_type(),
                    name, " of a power must be (", rows, ", ", width, ") in the dtype of x");
}

Tensor fitting(const char *name, const Tensor &given, int64_t rows, int64_t width,
               const Tensor &like) {
    fits(name, given, rows, width, like);
    return dense(given);
}

Tensor as_weights(const char *name, const Tensor &given, const Tensor &w) {
    bool same = given.dim() == w.dim() && given.scalar_type() == w.scalar_type();
    for (int64_t k = 0; same && k < w.dim(); k++) same = given.size(k) == w.size(k);
    STD_TORCH_CHECK(same, name, " of a power must be as its weights");
    return dense(given);
}

/* Nodes by the row of weights that they use, in chunks. */
struct Groups {
    std::vector<int32_t> order;
    std::vector<PowerChunk> chunks;
    int32_t spare = 0;

    /* With `apart`, nodes with weights of their own are taken together. */
    Groups(const Tensor &elements, const Tensor &w, int64_t nodes, bool apart) {
        if (elements.dim() == 1) {
            by_element(elements, w, nodes);
        } else if (w.dim() == 1) {
            add(0, 0, static_cast<int32_t>(nodes));
        } else if (apart) {
            for (int32_t n = 0; n < nodes; n += kChunk)
                chunks.push_back({EACH_ITS_OWN, n, std::min<int32_t>(n + kChunk, nodes), -1});
        } else {
            for (int32_t n = 0; n < nodes; n++) add(n, n, n + 1);
        }
    }

   private:
    void by_element(const Tensor &elements, const Tensor &w, int64_t nodes) {
        STD_TORCH_CHECK(elements.size(0) == nodes && w.dim() == 2,
                        "elements of a power must be a number for each of ", nodes,
                        " nodes, and weights a row for each element");
        const int64_t rows = w.size(0);
        const std::vector<int32_t> row = whole_numbers("elements", elements, rows);
        std::vector<int32_t> next(rows + 1, 0);
        for (const int32_t element : row) next[element + 1]++;
        for (int64_t z = 0; z < rows; z++) next[z + 1] += next[z];
        for (int32_t z = 0; z < rows; z++) add(z, next[z], next[z + 1]);
        order.resize(nodes);
        for (int32_t n = 0; n < nodes; n++) order[next[row[n]]++] = n;
    }

    void add(int32_t row, int32_t first, int32_t last) {
        const bool whole = last - first <= kChunk;
        for (int32_t at = first; at < last; at += kChunk)
            chunks.push_back({row, at, std::min(at + kChunk, last), whole ? -1 : spare++});
    }
};

/* Whether a program is one of steps; it has no monomials, and its multiply-adds in place of pairs. */
bool by_steps(const int32_t *program) { return program[kMonomials] == 0; }

/* Numbers of a program of polynomials, without its closed form (kernels/power_table.py). */
int64_t numbers_of(const int32_t *program) {
    return 14 + program[kNumel] +
           2 * (program[kOut] + program[kMonomials] + program[kTerms] + program[kShorts] +
                program[kRuns]) +
           3 * program[kPairs];
}

/* Whether it is of this version of the library; a graph may hold one of another. */
bool known(const Tensor &table) {
    const auto *program = static_cast<const int32_t *>(table.data_ptr());
    return by_steps(program) ? program[kVersion] == kStepsVersion
                             : table.numel() >= numbers_of(program);
}

using Run = int (*)(const PowerCall *call, int threads);

/* What every operator is given; holds what the call points to. */
struct Inputs {
    const int32_t *program;
    Tensor x, w, hx, hw, table, values, places;
    Groups groups;
    PowerCall call{};

    Inputs(const Tensor &x_, const Tensor &w_, const Tensor *change, const Tensor &elements,
           const Tensor &program_, const Tensor &places_, const Tensor &values_)
        : program(static_cast<const int32_t *>(program_.data_ptr())),
          x(fitting("x", x_, x_.size(0), program[kDim] * channels(w_), x_)),
          w(dense(w_)),
          hx(change ? fitting("hx", change[0], x.size(0), x.size(1), x) : x),
          hw(change && change[1].numel() ? as_weights("hw", change[1], w) : w),
          table(program_),
          values(values_),
          places(places_),
          groups(elements, w, x.size(0), by_steps(program)) {
        const auto type = x.scalar_type();
        STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                        "a power computes in float32 or float64");
        STD_TORCH_CHECK(known(program_),
                        "the program of a power is not of this version of the library; make the "
                        "graph again");
        STD_TORCH_CHECK(w.scalar_type() == type, "weights of a power must be in the dtype of x");
        STD_TORCH_CHECK(elements.dim() == 1 || w.dim() == 1 || w.size(0) == x.size(0),
                        "weights of a power must be a row for each of ", x.size(0), " nodes");
        STD_TORCH_CHECK(places.numel() == 2 * (program[kDim] + program[kOut]),
                        "places must hold two numbers for each component");
        call.program = program;
        call.values = values.data_ptr();
        call.places = static_cast<const int32_t *>(places.data_ptr());
        call.x = x.data_ptr(), call.w = w.data_ptr();
        if (change) call.hx = hx.data_ptr();
        if (change && change[1].numel()) call.hw = hw.data_ptr();
        call.order = groups.order.empty() ? nullptr : groups.order.data();
        call.chunks = groups.chunks.data();
        call.n_chunks = static_cast<int64_t>(groups.chunks.size());
        call.channels = channels(w);
    }

    /* The walk over monomials, in the precision of x, or the steps. */
    void run(Run single, Run twice) const {
        const bool narrow = x.scalar_type() == ScalarType::Float;
        Run walk = narrow ? single : twice;
        if (by_steps(program)) walk = narrow ? etp_power_steps_float : etp_power_steps_double;
        STD_TORCH_CHECK(!walk(&call, threads()), "no memory for what a power is made of");
    }

   private:
    /* A number that is read or written costs a few multiply-adds, the way back a few walks. */
    int threads() const {
        const int64_t steps = program[kShorts] + program[kPairs];
        const int64_t moved = program[kDim] + program[kOut];
        const int64_t walks = call.hx ? 6 : call.g ? 3 : 1;
        return threads_for(x.size(0) * call.channels * (steps + 4 * moved) * walks / 4);
    }

    int64_t channels(const Tensor &weights) const {
        const int64_t numel = program[kNumel], width = weights.size(weights.dim() - 1);
        STD_TORCH_CHECK((weights.dim() == 1 || weights.dim() == 2) && width % numel == 0,
                        "weights of a power must be ", numel, " numbers for each channel");
        return width / numel;
    }
};

Tensor forward(Inputs &in) {
    PowerCall &call = in.call;
    Tensor z = made(in.x, {in.x.size(0), in.program[kOut] * call.channels}, false);
    call.z = z.data_ptr();
    in.run(etp_power_forward_float, etp_power_forward_double);
    return z;
}

using Two = std::tuple<Tensor, Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;

Two backward(Inputs &in, const Tensor &grad, bool want_x, bool want_w) {
    PowerCall &call = in.call;
    const int64_t size = in.program[kNumel] * call.channels, out = in.program[kOut] * call.channels;
    fits("grad", grad, in.x.size(0), out, in.x);
    const bool same = one_number(grad);
    const Tensor g = same ? made(in.x, {1, out}, false) : dense(grad);
    if (same) fill(g, grad.data_ptr());
    call.g = g.data_ptr(), call.g_row = same ? 0 : out;
    call.want_x = want_x, call.want_w = want_w;
    Tensor gx = made(in.x, {want_x ? in.x.size(0) : 0, in.x.size(1)}, false);
    Tensor gw = !want_w             ? made(in.x, {0}, false)
                : in.w.dim() == 2 ? made(in.x, {in.w.size(0), size}, true)
                                  : made(in.x, {size}, true);
    const Tensor spare = made(in.x, {want_w ? in.groups.spare : 0, size}, false);
    call.gx = gx.data_ptr(), call.gw = gw.data_ptr(), call.gw_spare = spare.data_ptr();
    in.run(etp_power_backward_float, etp_power_backward_double);
    return {gx, gw};
}

Tensor power_forward(Tensor x, Tensor w, Tensor elements, Tensor program, Tensor places,
                     Tensor values, int64_t) {
    Inputs in(x, w, nullptr, elements, program, places, values);
    return forward(in);
}

Two power_backward(Tensor grad, Tensor x, Tensor w, Tensor elements, Tensor program, Tensor places,
                   Tensor values, bool want_x, bool want_w) {
    Inputs in(x, w, nullptr, elements, program, places, values);
    return backward(in, grad, want_x, want_w);
}

/* What the walk back gives, changed along hx and hw (empty: no change), and what the walk forward
 * does, which is the gradient by grad. */
Three power_second(Tensor grad, Tensor x, Tensor w, Tensor hx, Tensor hw, Tensor elements,
                   Tensor program, Tensor places, Tensor values, bool want_grad, bool want_x,
                   bool want_w) {
    const Tensor change[] = {hx, hw};
    Inputs in(x, w, change, elements, program, places, values);
    Tensor z = made(in.x, {want_grad ? in.x.size(0) : 0, in.program[kOut] * in.call.channels}, false);
    if (want_grad) in.call.z = z.data_ptr();
    auto [gx, gw] = backward(in, grad, want_x, want_w);
    return {z, gx, gw};
}

/* Where the one of each row is, int32; nothing where a row is not one-hot. */
Tensor one_hot_places(Tensor rows) {
    STD_TORCH_CHECK(rows.dim() == 2, "one-hot rows must be a matrix");
    const Tensor given = dense(rows);
    const int64_t n = given.size(0), width = given.size(1);
    const auto type = given.scalar_type();
    STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                    "one-hot rows must be in float32 or float64");
    std::vector<int32_t> place(std::max<int64_t>(n, 1));
    const auto read = type == ScalarType::Float ? etp_one_hot_float : etp_one_hot_double;
    const int64_t found = width && read(given.data_ptr(), n, width, place.data()) ? n : 0;
    const int64_t stride = 1;
    AtenTensorHandle handle;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(1, &found, &stride,
                                                           aoti_torch_dtype_int32(),
                                                           aoti_torch_device_type_cpu(), 0, &handle));
    Tensor out(handle);
    std::copy_n(place.data(), found, static_cast<int32_t *>(out.data_ptr()));
    return out;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(etp, CPU, m) {
    m.impl("power_forward", TORCH_BOX(&power_forward));
    m.impl("power_backward", TORCH_BOX(&power_backward));
    m.impl("power_second", TORCH_BOX(&power_second));
    m.impl("one_hot_places", TORCH_BOX(&one_hot_places));
}
