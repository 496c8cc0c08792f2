// The k largest numbers of a row.

#include "rows.h"

namespace {

// The k largest entries above zero of a row that comes in pieces, of which the first has offset 0.
// Floats above zero are ordered as their bits are, and no other is ever chosen: so integers are compared, int32 or, for bfloat16, int16.
template <class Bits>
class TopK {
  public:
    TopK(int64_t m, int64_t k) : m_(m), k_(k), blocks_((m + BLOCK - 1) / BLOCK), best_(blocks_), order_(blocks_), found_(m) {
        all_.reserve(m + k);
    }

    // Adds latents offset to offset + m to what index and value hold. The k-th largest number so far, and the k-th largest maximum of a
    // block, bound the k-th largest entry from below: only blocks that reach both are looked into.
    void piece(const Bits* row, int64_t offset, bool last, int64_t* index, float* value) {
        if (offset == 0) std::fill(value, value + k_, 0.0f);
        if (maxima(row, m_, best_) || std::isnan(value[0])) {
            for (int64_t j = 0; j < k_; ++j) index[j] = j, value[j] = std::numeric_limits<float>::quiet_NaN();
            return;
        }
        Bits bound = static_cast<Bits>(bits(*std::min_element(value, value + k_)) + 1);
        if (blocks_ > k_) {
            std::copy(best_.begin(), best_.end(), order_.begin());
            std::nth_element(order_.begin(), order_.begin() + (k_ - 1), order_.end(), std::greater<Bits>());
            bound = std::max(bound, order_[k_ - 1]);
        }
        const int64_t count = found(row, m_, best_, bound, found_);
        if (count) merge(row, offset, count, index, value);
        if (last) fill(index, value, std::find(value, value + k_, 0.0f) - value, k_);
    }

  private:
    static Bits bits(float value) {  // of a number that has them
        uint32_t out;
        std::memcpy(&out, &value, 4);
        return static_cast<Bits>(sizeof(Bits) == 4 ? out : out >> 16);
    }

    void merge(const Bits* row, int64_t offset, int64_t count, int64_t* index, float* value) {
        all_.clear();
        for (int64_t j = 0; j < k_; ++j) {
            if (value[j] > 0.0f) all_.push_back({value[j], index[j]});
        }
        for (int64_t j = 0; j < count; ++j) all_.push_back({number(row[found_[j]]), offset + found_[j]});
        const int64_t kept = std::min<int64_t>(k_, all_.size());
        if (static_cast<int64_t>(all_.size()) > k_) {  // ties go to the lower latent
            auto before = [](const Entry& a, const Entry& b) { return a.value != b.value ? a.value > b.value : a.index < b.index; };
            std::nth_element(all_.begin(), all_.begin() + (k_ - 1), all_.end(), before);
        }
        for (int64_t j = 0; j < kept; ++j) index[j] = all_[j].index, value[j] = all_[j].value;
    }

    int64_t m_, k_, blocks_;
    std::vector<Bits> best_, order_;
    std::vector<int64_t> found_;
    std::vector<Entry> all_;
};

template <class Bits>
void topk(const Bits* scores, int64_t n, int64_t m, int64_t k, int64_t offset, int last, int64_t* index, float* value, int threads) {
#pragma omp parallel num_threads(threads)
    {
        TopK<Bits> one(m, k);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; ++i) one.piece(scores + i * m, offset, last, index + i * k, value + i * k);
    }
}

}  // namespace

// The k largest entries above zero of every row, of which these are the latents from `offset` on; index and value hold those of the
// latents before. After the last piece, where there are fewer than k, others with value 0 follow.
EXPORT(topk_float32)(const int32_t* scores, int64_t n, int64_t m, int64_t k, int64_t offset, int last, int64_t* index, float* value,
                     int threads) {
    topk(scores, n, m, k, offset, last, index, value, threads);
}
EXPORT(topk_bfloat16)(const int16_t* scores, int64_t n, int64_t m, int64_t k, int64_t offset, int last, int64_t* index, float* value,
                      int threads) {
    topk(scores, n, m, k, offset, last, index, value, threads);
}
