/* What operators of PyTorch share: tensors made and read against its stable interface. */
#ifndef ETP_TENSORS_H
#define ETP_TENSORS_H
#include <sys/mman.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "pool.h"

namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kThreadMacs = 1 << 17; /* some ten microseconds, worth one more thread */

/* Threads that a number of multiply-adds is worth. */
inline int threads_for(int64_t macs) {
    const int64_t worth = 1 + macs / kThreadMacs;
    return worth == 1 ? 1 : std::min<int64_t>(worth, torch::stable::get_num_threads());
}

inline Tensor dense(const Tensor &given) {
    return given.is_contiguous() ? given : torch::stable::contiguous(given);
}

/* Large memory is new to the process at every call, and the system gives it page by page as it is
 * written: of the small ones, that takes longer than most products. Linux has larger ones for whoever
 * asks. */
inline void by_large_pages(const Tensor &tensor) {
#ifdef MADV_HUGEPAGE
    constexpr uintptr_t kPage = 1 << 21;
    const int64_t bytes = tensor.numel() * (tensor.scalar_type() == ScalarType::Double ? 8 : 4);
    const auto start = reinterpret_cast<uintptr_t>(tensor.data_ptr());
    const uintptr_t first = (start + kPage - 1) / kPage * kPage, last = (start + bytes) / kPage * kPage;
    if (last > first + kPage) madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
#endif
}

struct Bytes {
    char *first;
    int64_t count;
};
constexpr int64_t kBytesBlock = 1 << 18;

inline void zero_block(void *bytes, int64_t block) {
    const auto *all = static_cast<const Bytes *>(bytes);
    const int64_t at = block * kBytesBlock, left = all->count - at;
    std::memset(all->first + at, 0, left < kBytesBlock ? left : kBytesBlock);
}

/* By the threads of the pool: those of PyTorch, once woken, look for more work for a while, on the
 * cores that the kernel is about to use. */
inline void set_zero(const Tensor &tensor) {
    Bytes bytes = {static_cast<char *>(tensor.data_ptr()),
                   tensor.numel() * (tensor.scalar_type() == ScalarType::Double ? 8 : 4)};
    const int64_t blocks = (bytes.count + kBytesBlock - 1) / kBytesBlock;
    etp_parallel(blocks, blocks > 1 ? torch::stable::get_num_threads() : 1, zero_block, &bytes);
}

/* A vector or matrix on the CPU in the dtype of another tensor. */
inline Tensor made(const Tensor &like, std::vector<int64_t> sizes, bool zero) {
    int64_t strides[2] = {sizes.size() == 2 ? sizes[1] : 1, 1};
    int32_t dtype;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &dtype));
    AtenTensorHandle handle;
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
        static_cast<int64_t>(sizes.size()), sizes.data(), strides, dtype,
        aoti_torch_device_type_cpu(), 0, &handle));
    Tensor tensor(handle);
    by_large_pages(tensor);
    if (zero) set_zero(tensor);
    return tensor;
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
