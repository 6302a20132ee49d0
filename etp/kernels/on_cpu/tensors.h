/* What operators of PyTorch share: tensors made and read against its stable interface. */
#ifndef ETP_TENSORS_H
#define ETP_TENSORS_H
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "memory.h"
#include "pool.h"

#ifndef STABLE_TORCH_ERROR_CODE_CHECK /* PyTorch 2.11 and 2.12 */
#define STABLE_TORCH_ERROR_CODE_CHECK TORCH_ERROR_CODE_CHECK
#endif

/* Of PyTorch's own interface, which the stable one lacks: where it is not there, nobody is told. */
namespace c10 {
struct Device {
    int8_t type, index;
};
__attribute__((weak)) void reportMemoryUsageToProfiler(void *, int64_t, size_t, size_t, Device);
}  // namespace c10

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kThreadMacs = 1 << 17; /* some ten microseconds, worth one more thread */

/* Threads that a number of multiply-adds is worth. */
inline int threads_for(int64_t macs) {
    const int64_t worth = 1 + macs / kThreadMacs;
    return worth == 1 ? 1 : std::min<int64_t>(worth, torch::stable::get_num_threads());
}

constexpr size_t kKept = ETP_LARGE_PAGE / 4; /* bytes for which a large page is not too much */

/* What PyTorch's profiler is told of memory, where the library has it. */
inline void tell_profiler(void *start, int64_t change) {
    if (c10::reportMemoryUsageToProfiler)
        c10::reportMemoryUsageToProfiler(start, change, 0, 0, c10::Device{0, -1});
}

constexpr int64_t kFillBlock = 1 << 16; /* numbers */

template <typename T>
struct Filling {
    T *first;
    int64_t count;
    T value;
};

template <typename T>
void fill_block(void *filling, int64_t block) {
    const auto *all = static_cast<const Filling<T> *>(filling);
    const int64_t at = block * kFillBlock, count = std::min(all->count - at, int64_t{kFillBlock});
    if (all->value == 0) std::memset(all->first + at, 0, count * sizeof(T));
    else std::fill_n(all->first + at, count, all->value);
}

template <typename T>
void fill_with(const Tensor &tensor, T value) {
    Filling<T> filling = {static_cast<T *>(tensor.data_ptr()), tensor.numel(), value};
    const int64_t blocks = (filling.count + kFillBlock - 1) / kFillBlock;
    etp_parallel(blocks, blocks > 1 ? torch::stable::get_num_threads() : 1, fill_block<T>, &filling);
}

/* With one number everywhere, by the threads of the pool: those of PyTorch, once woken, look for more
 * work for a while, on the cores that the kernel is about to use. */
inline void fill(const Tensor &tensor, const void *number) {
    if (tensor.scalar_type() == ScalarType::Double)
        fill_with(tensor, *static_cast<const double *>(number));
    else
        fill_with(tensor, *static_cast<const float *>(number));
}

/* Bytes of a kept block, and of the tensor in it. */
struct Bytes {
    size_t block, asked;
};

inline void give_back(void *start, void *bytes) {
    const auto *own = static_cast<const Bytes *>(bytes);
    tell_profiler(start, -static_cast<int64_t>(own->asked));
    etp_memory_give(start, own->block);
    delete own;
}

/* A vector or matrix on the CPU in the dtype of another tensor; large ones in memory that was kept. */
inline Tensor made(const Tensor &like, std::vector<int64_t> sizes, bool zero) {
    const auto dims = static_cast<int64_t>(sizes.size());
    int64_t strides[2] = {dims == 2 ? sizes[1] : 1, 1};
    size_t bytes = like.scalar_type() == ScalarType::Double ? 8 : 4;
    for (const int64_t size : sizes) bytes *= size;
    int32_t dtype;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
    AtenTensorHandle handle;
    Bytes own{bytes, bytes};
    void *start = bytes >= kKept ? etp_memory_take(&own.block) : nullptr;
    if (start) {
        STABLE_TORCH_ERROR_CODE_CHECK(torch_from_blob(
            start, dims, sizes.data(), strides, 0, dtype, aoti_torch_device_type_cpu(), -1, &handle,
            aoti_torch_layout_strided(), nullptr, 0, give_back, new Bytes(own)));
        tell_profiler(start, static_cast<int64_t>(bytes));
    } else {
        STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
            dims, sizes.data(), strides, dtype, aoti_torch_device_type_cpu(), 0, &handle));
    }
    Tensor tensor(handle);
    constexpr double nothing = 0; /* of no bits, as that of a float */
    if (zero) fill(tensor, &nothing);
    return tensor;
}

/* Whether a matrix is one number over and over, as the gradient of a sum is. */
inline bool one_number(const Tensor &given) {
    const auto type = given.scalar_type();
    return (type == ScalarType::Float || type == ScalarType::Double) && given.dim() == 2 &&
           given.numel() && given.stride(0) == 0 && given.stride(1) == 0;
}

inline Tensor dense(const Tensor &given) {
    if (given.is_contiguous()) return given;
    if (!one_number(given)) return torch::stable::contiguous(given);
    Tensor out = made(given, {given.size(0), given.size(1)}, false);
    fill(out, given.data_ptr());
    return out;
}

/* Numbers from 0 to count - 1, int32 or int64. */
inline std::vector<int32_t> whole_numbers(const char *name, const Tensor &index, int64_t count) {
    const Tensor whole = dense(index);
    std::vector<int32_t> out(whole.numel());
    const bool wide = whole.scalar_type() == ScalarType::Long;
    STD_TORCH_CHECK(wide || whole.scalar_type() == ScalarType::Int, name,
                    " must be whole numbers, int32 or int64");
    const auto *narrow = static_cast<const int32_t *>(wide ? nullptr : whole.data_ptr());
    const auto *longer = static_cast<const int64_t *>(wide ? whole.data_ptr() : nullptr);
    for (size_t e = 0; e < out.size(); e++) {
        const int64_t number = wide ? longer[e] : narrow[e];
        STD_TORCH_CHECK(number >= 0 && number < count, name, " must be from 0 to ", count - 1, ", got ",
                        number);
        out[e] = static_cast<int32_t>(number);
    }
    out.reserve(1); /* an address, also of no nodes: it says that there are some */
    return out;
}

}  // namespace
#endif
