/* Tile programs as operators of PyTorch: what costs least to call, and what graphs keep whole.
 *
 * Written against PyTorch's stable interface, which compiles in a second. A bilinear map is two
 * tensors, laid out by kernels/on_cpu/program.py. tile.py defines the operators, and their
 * derivatives.
 */
#include <tuple>

#include "tensors.h"
#include "tile.h"

namespace {

constexpr int64_t kHead = 21;   /* numbers in front of a program's steps */
constexpr int32_t kVersion = 4; /* as in kernels/on_cpu/program.py */

struct Channels {
    Program program;
    int64_t count;
};

/* Program number `which` of those in `code`, one behind the other, with coefficients `table`. */
Channels read(const Tensor &code, const Tensor &table, int which, bool single) {
    STD_TORCH_CHECK(code.scalar_type() == ScalarType::Int &&
                        code.is_contiguous() && table.is_contiguous() && code.is_cpu() &&
                        table.is_cpu() && code.dim() == 1 && table.dim() == 1,
                    "the code and table of a tile program must be vectors on the CPU");
    const auto *at = static_cast<const int32_t *>(code.data_ptr());
    const auto *values = static_cast<const char *>(table.data_ptr());
    int64_t left = code.numel(), numbers = table.numel();
    for (;; which--) {
        STD_TORCH_CHECK(left >= kHead && at[0] == kVersion,
                        "the code of a tile program is not of this version of the library; "
                        "make the graph again");
        const int64_t n_steps = at[1], n_index = at[2], n_table = at[3], n_widths = at[20];
        const int64_t length = kHead + 8 * n_steps + n_index + n_widths;
        STD_TORCH_CHECK(n_steps >= 0 && n_index >= 0 && n_table >= 0 && n_widths >= 0 &&
                            at[19] > 0 && length <= left && n_table <= numbers,
                        "the code or table of a tile program is cut short");
        if (which == 0) {
            Program p = {};
            p.steps = reinterpret_cast<const Step *>(at + kHead);
            p.index = at + kHead + 8 * n_steps;
            p.table = values;
            p.n_steps = static_cast<int32_t>(n_steps);
            p.rows = at[4];
            p.macs = (static_cast<int64_t>(at[5]) << 31) + at[6];
            p.n_in = at[7], p.n_out = at[8];
            std::copy_n(at + 9, 3, p.in_row), std::copy_n(at + 12, 3, p.in_dim);
            std::copy_n(at + 15, 2, p.out_row), std::copy_n(at + 17, 2, p.out_dim);
            if (n_widths) p.widths = p.index + n_index;
            return {p, at[19]};
        }
        at += length, left -= length;
        numbers -= n_table, values += n_table * (single ? sizeof(float) : sizeof(double));
    }
}

/* `inputs` may be replaced by contiguous copies. */
template <size_t In, size_t Out>
void run(const Tensor &code, const Tensor &table, int which, Tensor (&inputs)[In],
         Tensor (&outputs)[Out]) {
    const auto dtype = table.scalar_type();
    const bool single = dtype == ScalarType::Float;
    STD_TORCH_CHECK(single || dtype == ScalarType::Double,
                    "the table of a tile program must be float32 or float64");
    const auto [p, channels] = read(code, table, which, single);
    const int64_t samples = inputs[0].dim() > 0 ? inputs[0].size(0) : 0;
    const void *in[In];
    void *out[Out];
    for (size_t k = 0; k < In; k++) {
        Tensor &x = inputs[k];
        STD_TORCH_CHECK(x.dim() == 2 && x.size(0) == samples &&
                            x.size(1) == p.in_dim[k] * channels && x.scalar_type() == dtype,
                        "input ", k, " of a tile program must be (", samples, ", ",
                        p.in_dim[k] * channels, ") in the precision of the program");
        x = dense(x);
        in[k] = x.data_ptr();
    }
    for (size_t k = 0; k < Out; k++) {
        outputs[k] = made(inputs[0], {samples, p.out_dim[k] * channels}, false);
        out[k] = outputs[k].data_ptr();
    }
    const int threads = threads_for(samples * channels * p.macs);
    const auto call = single ? etp_tile_float : etp_tile_double;
    STD_TORCH_CHECK(call(&p, in, out, samples, channels, threads) == 0, "no memory for a tile of samples");
}

Tensor tile(Tensor x, Tensor y, Tensor code, Tensor table, int64_t) {
    Tensor inputs[] = {x, y}, outputs[1];
    run(code, table, 0, inputs, outputs);
    return outputs[0];
}

std::tuple<Tensor, Tensor> tile_gradients(Tensor grad, Tensor x, Tensor y, Tensor code,
                                          Tensor table, int64_t) {
    Tensor inputs[] = {grad, x, y}, outputs[2];
    run(code, table, 1, inputs, outputs);
    return {outputs[0], outputs[1]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(etp, CPU, m) {
    m.impl("tile", TORCH_BOX(&tile));
    m.impl("tile_gradients", TORCH_BOX(&tile_gradients));
}
