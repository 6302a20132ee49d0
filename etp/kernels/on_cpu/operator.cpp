/* Tile programs as operators of PyTorch: what costs least to call, and what graphs keep whole.
 *
 * Written against PyTorch's stable interface, which compiles in a second. A bilinear map is known by
 * a number. kernels/tile.py defines the operators, and their derivatives.
 */
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <mutex>
#include <shared_mutex>
#include <tuple>
#include <unordered_map>

#include "tile.h"

namespace {

using torch::stable::Tensor;

struct Map {
    const Program *forward, *gradient;
    bool single;
};

constexpr int64_t kThreadMacs = 1 << 17; /* some ten microseconds, worth one more thread */

std::shared_mutex guard;
std::unordered_map<int64_t, Map> maps;

Map find(int64_t number) {
    std::shared_lock lock(guard);
    const auto found = maps.find(number);
    STD_TORCH_CHECK(found != maps.end(), "tile program ", number,
                    " is not known in this process: its product was deleted, or the graph was made "
                    "elsewhere; build the product and compile again");
    return found->second;
}

Tensor empty(const Tensor &like, int64_t samples, int64_t dim) {
    const int64_t sizes[] = {samples, dim}, strides[] = {dim, 1};
    int32_t dtype;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
    AtenTensorHandle made;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
        2, sizes, strides, dtype, aoti_torch_device_type_cpu(), 0, &made));
    return Tensor(made);
}

/* `inputs` may be replaced by contiguous copies. */
template <size_t In, size_t Out>
void run(const Map &map, const Program &p, Tensor (&inputs)[In], Tensor (&outputs)[Out]) {
    const int64_t samples = inputs[0].size(0);
    const auto dtype = map.single ? torch::headeronly::ScalarType::Float
                                  : torch::headeronly::ScalarType::Double;
    const void *in[In];
    void *out[Out];
    for (size_t k = 0; k < In; k++) {
        Tensor &x = inputs[k];
        STD_TORCH_CHECK(x.dim() == 2 && x.size(0) == samples && x.size(1) == p.in_dim[k] &&
                            x.scalar_type() == dtype,
                        "input ", k, " of a tile program must be (", samples, ", ", p.in_dim[k],
                        ") in the precision of the program");
        if (!x.is_contiguous()) x = torch::stable::contiguous(x);
        in[k] = x.data_ptr();
    }
    for (size_t k = 0; k < Out; k++) {
        outputs[k] = empty(inputs[0], samples, p.out_dim[k]);
        out[k] = outputs[k].data_ptr();
    }
    const int64_t worth = 1 + samples * p.macs / kThreadMacs;
    const int threads = worth == 1 ? 1 : std::min<int64_t>(worth, torch::stable::get_num_threads());
    const auto call = map.single ? etp_tile_float : etp_tile_double;
    STD_TORCH_CHECK(call(&p, in, out, samples, threads) == 0, "no memory for a tile of samples");
}

Tensor tile(Tensor x, Tensor y, int64_t number) {
    const Map map = find(number);
    Tensor inputs[] = {x, y}, outputs[1];
    run(map, *map.forward, inputs, outputs);
    return outputs[0];
}

std::tuple<Tensor, Tensor> tile_gradients(Tensor grad, Tensor x, Tensor y, int64_t number) {
    const Map map = find(number);
    Tensor inputs[] = {grad, x, y}, outputs[2];
    run(map, *map.gradient, inputs, outputs);
    return {outputs[0], outputs[1]};
}

}  // namespace

/* The programs must stay where they are until they are dropped. */
extern "C" void etp_tile_keep(int64_t number, const Program *forward, const Program *gradient,
                              int single) {
    std::unique_lock lock(guard);
    maps[number] = {forward, gradient, single != 0};
}

extern "C" void etp_tile_drop(int64_t number) {
    std::unique_lock lock(guard);
    maps.erase(number);
}

STABLE_TORCH_LIBRARY_IMPL(etp, CPU, m) {
    m.impl("tile", TORCH_BOX(&tile));
    m.impl("tile_gradients", TORCH_BOX(&tile_gradients));
}
