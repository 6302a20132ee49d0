/* Edge products as operators of PyTorch, against its stable interface; kernels/edge.py defines them.
 *
 * A tensor without numbers stands for what is not there: weights, or the nodes of the edges, where
 * features are already those of each edge. Tables are tensors too, so that a graph needs nothing
 * that only this process knows.
 */
#include <tuple>
#include <vector>

#include "edge.h"
#include "tensors.h"

namespace {

constexpr int kPaths = 0, kDim1 = 5, kDim2 = 6, kDim3 = 7, kNumel = 8;
constexpr int kMacs = 12, kEveryIn = 13, kEveryOut = 14;
constexpr int kHeader = 15, kPath = 11, kPathWeight = 2, kPathMul = 3, kPathAdds = 9; /* numbers */

Tensor rows(const char *name, const Tensor &given, int64_t width, const Tensor &like) {
    STD_TORCH_CHECK(given.dim() == 2 && given.size(1) == width &&
                        given.scalar_type() == like.scalar_type(),
                    name, " of an edge product must be (rows, ", width, ") in the dtype of x");
    return dense(given);
}

/* Edges by the node of a side: order is empty where they come so already. */
struct Groups {
    std::vector<int32_t> starts, order;

    Groups(const std::vector<int32_t> &node, int64_t count) : starts(count + 1, 0) {
        bool sorted = true;
        for (size_t e = 0; e < node.size(); e++) {
            starts[node[e] + 1]++;
            sorted &= e == 0 || node[e] >= node[e - 1];
        }
        for (int64_t n = 0; n < count; n++) starts[n + 1] += starts[n];
        if (sorted) return;
        std::vector<int32_t> next(starts.begin(), starts.end() - 1);
        order.resize(node.size());
        for (size_t e = 0; e < node.size(); e++) order[next[node[e]]++] = static_cast<int32_t>(e);
    }

    void give(EdgeCall &call) const {
        call.starts = starts.data();
        call.order = order.empty() ? nullptr : order.data();
    }
};

/* What every operator is given; holds what the call points to. */
struct Inputs {
    const int32_t *program;
    Tensor x, y, w, hx, hy, hw, table, values;
    std::vector<int32_t> senders, receivers;
    bool changes;
    EdgeCall call{};

    Inputs(const Tensor &x_, const Tensor &y_, const Tensor &w_, const Tensor *change,
           const Tensor &senders_, const Tensor &receivers_, const Tensor &program_,
           const Tensor &values_, int64_t out_rows)
        : program(static_cast<const int32_t *>(program_.data_ptr())),
          x(rows("x", x_, program[kDim1], x_)),
          y(rows("y", y_, program[kDim2], x_)),
          w(weights(w_)),
          hx(change ? rows("hx", change[0], program[kDim1], x_) : x),
          hy(change ? rows("hy", change[1], program[kDim2], x_) : y),
          hw(change ? weights(change[2]) : w),
          table(program_),
          values(values_),
          changes(change != nullptr) {
        STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float || x.scalar_type() == ScalarType::Double,
                        "an edge product computes in float32 or float64");
        const bool convolves = senders_.dim() == 1 && receivers_.dim() == 1;
        call.program = program;
        call.values = values.data_ptr();
        call.x = x.data_ptr(), call.y = y.data_ptr();
        call.edges = y.size(0);
        call.in_rows = x.size(0);
        call.out_rows = convolves ? out_rows : call.edges;
        if (w.numel()) {
            call.w = w.data_ptr();
            call.w_stride = w.dim() == 2 ? program[kNumel] : 0;
        }
        if (changes) {
            call.hx = hx.data_ptr(), call.hy = hy.data_ptr();
            if (w.numel()) call.hw = hw.data_ptr();
            STD_TORCH_CHECK(hw.numel() == w.numel(), "changes of weights must be as the weights");
        }
        if (!convolves) return;
        STD_TORCH_CHECK(senders_.size(0) == call.edges && receivers_.size(0) == call.edges,
                        "senders and receivers must have an entry for each of ", call.edges,
                        " edges");
        senders = whole_numbers("senders", senders_, call.in_rows);
        receivers = whole_numbers("receivers", receivers_, out_rows);
        call.senders = senders.data(), call.receivers = receivers.data();
    }

    bool convolves() const { return call.senders != nullptr; }

    /* Whether each weight is some path's: then a gradient by weights of edges is written whole. */
    bool every_weight() const {
        const int32_t *path = program + kHeader;
        int64_t taken = 0;
        for (int k = 0; k < program[kPaths]; k++, path += kPath)
            taken += path[kPathWeight] < 0 || path[kPathAdds] ? 0 : path[kPathMul];
        return taken >= program[kNumel];
    }

    bool single() const { return x.scalar_type() == ScalarType::Float; }

    int threads() const { return threads_for(call.edges * program[kMacs]); }

   private:
    Tensor weights(const Tensor &given) const {
        if (!given.numel()) return given;
        STD_TORCH_CHECK(given.size(given.dim() - 1) == program[kNumel] && given.dim() <= 2 &&
                            given.scalar_type() == x.scalar_type(),
                        "weights of an edge product must be (", program[kNumel],
                        ",) or a row for each edge");
        return dense(given);
    }
};

Tensor forward(Inputs &in) {
    EdgeCall &call = in.call;
    Tensor z = made(in.x, {call.out_rows, in.program[kDim3]}, !in.program[kEveryOut]);
    call.z = z.data_ptr();
    const auto run = in.single() ? etp_edge_forward_float : etp_edge_forward_double;
    int failed;
    if (in.convolves()) {
        const Groups groups(in.receivers, call.out_rows);
        groups.give(call);
        failed = run(&call, in.threads());
    } else {
        failed = run(&call, in.threads());
    }
    STD_TORCH_CHECK(!failed, "no memory for the rows of an edge product");
    return z;
}

using Three = std::tuple<Tensor, Tensor, Tensor>;

Three backward(Inputs &in, const Tensor &grad, bool want_x) {
    EdgeCall &call = in.call;
    const Tensor g = rows("grad", grad, in.program[kDim3], in.x);
    STD_TORCH_CHECK(g.size(0) == call.out_rows, "grad must have ", call.out_rows, " rows");
    call.g = g.data_ptr();
    call.want_x = want_x;
    Tensor gx = made(in.x, {want_x ? call.in_rows : 0, in.program[kDim1]}, !in.program[kEveryIn]);
    Tensor gy = made(in.x, {call.edges, in.program[kDim2]}, false);
    // By their number of axes: those of no edge at all have no numbers either.
    Tensor gw = in.w.dim() == 2
                    ? made(in.x, {call.edges, in.program[kNumel]}, !in.every_weight())
                    : made(in.x, {in.w.numel() ? in.program[kNumel] : 0}, true);
    call.gx = gx.data_ptr(), call.gy = gy.data_ptr();
    call.gw = in.w.numel() ? gw.data_ptr() : nullptr;
    const auto run = in.single() ? etp_edge_backward_float : etp_edge_backward_double;
    int failed;
    if (in.convolves()) {
        const Groups groups(in.senders, call.in_rows);
        groups.give(call);
        failed = run(&call, in.threads());
    } else {
        failed = run(&call, in.threads());
    }
    STD_TORCH_CHECK(!failed, "no memory for the rows of an edge product");
    return {gx, gy, gw};
}

Tensor edge_forward(Tensor x, Tensor y, Tensor w, Tensor senders, Tensor receivers, Tensor program,
                    Tensor values, int64_t out_rows, int64_t) {
    Inputs in(x, y, w, nullptr, senders, receivers, program, values, out_rows);
    return forward(in);
}

Tensor edge_forward_change(Tensor x, Tensor y, Tensor w, Tensor hx, Tensor hy, Tensor hw,
                           Tensor senders, Tensor receivers, Tensor program, Tensor values,
                           int64_t out_rows, int64_t) {
    const Tensor change[] = {hx, hy, hw};
    Inputs in(x, y, w, change, senders, receivers, program, values, out_rows);
    return forward(in);
}

Three edge_backward(Tensor grad, Tensor x, Tensor y, Tensor w, Tensor senders, Tensor receivers,
                    Tensor program, Tensor values, bool want_x) {
    Inputs in(x, y, w, nullptr, senders, receivers, program, values, grad.size(0));
    return backward(in, grad, want_x);
}

Three edge_backward_change(Tensor grad, Tensor x, Tensor y, Tensor w, Tensor hx, Tensor hy,
                           Tensor hw, Tensor senders, Tensor receivers, Tensor program,
                           Tensor values, bool want_x) {
    const Tensor change[] = {hx, hy, hw};
    Inputs in(x, y, w, change, senders, receivers, program, values, grad.size(0));
    return backward(in, grad, want_x);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(etp, CPU, m) {
    m.impl("edge_forward", TORCH_BOX(&edge_forward));
    m.impl("edge_forward_change", TORCH_BOX(&edge_forward_change));
    m.impl("edge_backward", TORCH_BOX(&edge_backward));
    m.impl("edge_backward_change", TORCH_BOX(&edge_backward_change));
}
