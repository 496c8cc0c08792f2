// The k largest products of a row, exactly, given approximations.

#include "rows.h"

namespace {

// What a screen knows of the encoder. length: |w_j|; lost: |w_j - its rounded copy|; bias: with its sign.
struct Encoder {
    const float *weight, *bias, *length, *lost;
    int64_t m, d;
};

// The k largest of x . w_j + b_j above zero, exactly, from their approximations. An approximation t_j, a product of rounded numbers
// summed in float32 in any order, is off by no more than
//     e_j = |x - x'| |w_j| + |x'| |w_j - w'_j|       Cauchy and Schwarz, for rounding x to x' and w_j to w'_j
//         + (d + 8) 2^-23 |x'| |w'_j|                the sum
//         + (2 u + 2^-22) (|t_j| + |b_j|)            rounding bias, product and result; u = 2^-8 in bfloat16, 2^-24 in float32
// so that only latents whose t_j + e_j reaches the k-th largest t_j - e_j can be among the k largest. Those are computed in double and
// rounded once; where one of them is further off than e_j the approximations were not what they should be, and all are computed.
template <class Bits>
class Screen {
  public:
    Screen(const Encoder& of, int64_t k) : of_(of), k_(k), best_((of.m + BLOCK - 1) / BLOCK), found_(of.m), off_(of.m), order_(of.m) {
        all_.reserve(of.m);
        for (int64_t j = 0; j < of.m; ++j) {
            longest_ = std::max(longest_, of.length[j]);
            furthest_ = std::max(furthest_, of.lost[j]);
            steepest_ = std::max(steepest_, std::fabs(of.bias[j]));
        }
    }

    // scores: null where there are no approximations.
    void row(const Bits* scores, const float* x, int64_t* index, float* value) {
        double kept = 0.0, gone = 0.0;
        for (int64_t c = 0; c < of_.d; ++c) {
            const double near = sizeof(Bits) == 4 ? x[c] : number(rounded(x[c])), apart = x[c] - near;
            kept += near * near, gone += apart * apart;
        }
        kept_ = static_cast<float>(std::sqrt(kept) * 1.00001), gone_ = static_cast<float>(std::sqrt(gone) * 1.00001);
        const bool finite = kept_ + gone_ + longest_ + steepest_ < std::numeric_limits<float>::infinity();
        const bool sound = finite && !(scores && maxima(scores, of_.m, best_));
        if (sound && ((scores && among(scores, candidates(scores), x)) || among(nullptr, everything(), x))) {
            choose(index, value);
        } else {
            for (int64_t j = 0; j < k_; ++j) index[j] = j, value[j] = std::numeric_limits<float>::quiet_NaN();
        }
    }

  private:
    static constexpr int64_t AHEAD = 3;  // rows of weights that are on their way from memory
    static constexpr float ROUND = (sizeof(Bits) == 4 ? 0x1p-23f : 0x1p-7f) + 0x1p-22f;

    float error(float length, float lost, float bias) const {  // e_j without |t_j|, a little more for its own rounding
        const float sum = static_cast<float>(of_.d + 8) * 0x1p-23f * kept_ * (length + lost);
        return 1.00001f * (gone_ * length + kept_ * lost + sum + ROUND * std::fabs(bias)) + 0x1p-100f;
    }

    int64_t everything() {
        for (int64_t j = 0; j < of_.m; ++j) found_[j] = j;
        return of_.m;
    }

    // The latents that can be among the k largest and above zero: first by what is true of all, then each by its own error.
    int64_t candidates(const Bits* scores) {
        const float most = error(longest_, furthest_, steepest_);
        const int64_t blocks = best_.size();
        float bound = 0.0f;
        if (blocks >= k_) {
            std::copy(best_.begin(), best_.end(), bits_.begin());
            std::nth_element(bits_.begin(), bits_.begin() + (k_ - 1), bits_.end(), std::greater<Bits>());
            bound = (number(bits_[k_ - 1]) * (1.0f - ROUND) - 2.0f * most) * (1.0f - ROUND);
        }
        int64_t count = 0;
        if (bound > 0.0f) {
            int32_t whole;
            std::memcpy(&whole, &bound, 4);
            const Bits least = static_cast<Bits>(sizeof(Bits) == 4 ? whole : whole >> 16);  // rounded down
            count = found(scores, of_.m, best_, least, found_);
        } else {
            const float least = -most * (1.0f + 2.0f * ROUND);
            for (int64_t j = 0; j < of_.m; ++j) {
                found_[count] = j;
                count += number(scores[j]) > least;
            }
        }
        for (int64_t i = 0; i < count; ++i) {
            const int64_t j = found_[i];
            const float near = number(scores[j]);
            off_[i] = error(of_.length[j], of_.lost[j], of_.bias[j]) + ROUND * std::fabs(near);
            order_[i] = near - off_[i];
        }
        float least = 0.0f;
        if (count >= k_) {
            std::nth_element(order_.begin(), order_.begin() + (k_ - 1), order_.begin() + count, std::greater<float>());
            least = std::max(least, order_[k_ - 1]);
        }
        int64_t left = 0;
        for (int64_t i = 0; i < count; ++i) {
            const bool can = number(scores[found_[i]]) + off_[i] >= least;
            found_[left] = found_[i], off_[left] = off_[i];
            left += can;
        }
        return left;
    }

    // Computes the candidates; keeps those above zero. False where one is not finite or not where its approximation says.
    bool among(const Bits* scores, int64_t count, const float* x) {
        all_.clear();
        for (int64_t i = 0; i < count; ++i) {
            const int64_t j = found_[i];
            if (i + AHEAD < count) {
                const char* next = reinterpret_cast<const char*>(of_.weight + found_[i + AHEAD] * of_.d);
                for (int64_t c = 0; c < of_.d * 4; c += 64) __builtin_prefetch(next + c, 0, 2);
            }
            const float value = static_cast<float>(exactly(x, of_.weight + j * of_.d, of_.d) + of_.bias[j]);
            if (std::isnan(value) || (scores && !(std::fabs(value - number(scores[j])) <= off_[i]))) return false;
            if (value > 0.0f) all_.push_back({value, j});
        }
        return true;
    }

    // The k largest, ties to the lower latent, latents ascending; entries of value 0 name the lowest that are not among them.
    void choose(int64_t* index, float* value) {
        if (static_cast<int64_t>(all_.size()) > k_) {
            auto before = [](const Entry& a, const Entry& b) { return a.value != b.value ? a.value > b.value : a.index < b.index; };
            std::nth_element(all_.begin(), all_.begin() + (k_ - 1), all_.end(), before);
            all_.resize(k_);
        }
        std::sort(all_.begin(), all_.end(), [](const Entry& a, const Entry& b) { return a.index < b.index; });
        const int64_t held = all_.size();
        for (int64_t j = 0; j < held; ++j) index[j] = all_[j].index, value[j] = all_[j].value;
        fill(index, value, held, k_);
    }

    const Encoder& of_;
    int64_t k_;
    float longest_ = 0.0f, furthest_ = 0.0f, steepest_ = 0.0f, kept_ = 0.0f, gone_ = 0.0f;
    std::vector<Bits> best_, bits_ = best_;
    std::vector<int64_t> found_;
    std::vector<float> off_, order_;
    std::vector<Entry> all_;
};

template <class Bits>
void screen(const Bits* scores, const float* x, const Encoder& of, int64_t n, int64_t k, int64_t* index, float* value, int threads) {
#pragma omp parallel num_threads(threads)
    {
        Screen<Bits> one(of, k);
#pragma omp for schedule(dynamic, 16)
        for (int64_t i = 0; i < n; ++i) one.row(scores ? scores + i * of.m : nullptr, x + i * of.d, index + i * k, value + i * k);
    }
}

}  // namespace

// Lengths of the weights' rows, of what rounding to bfloat16 takes from them, and the rounded copy; without one nothing is rounded.
EXPORT(lengths)(const float* weight, int64_t m, int64_t d, int16_t* copy, float* length, float* lost, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t j = 0; j < m; ++j) {
        double whole = 0.0, gone = 0.0;
#pragma omp simd reduction(+ : whole, gone)
        for (int64_t c = 0; c < d; ++c) {
            const float w = weight[j * d + c];
            float near = w;
            if (copy) copy[j * d + c] = rounded(w), near = number(rounded(w));
            whole += static_cast<double>(w) * w;
            gone += static_cast<double>(w - near) * (w - near);
        }
        length[j] = static_cast<float>(std::sqrt(whole) * 1.00001);
        lost[j] = static_cast<float>(std::sqrt(gone) * 1.00001);
    }
}

// The k largest of x . w_j + b_j above zero in every row, computed in double and rounded once, given approximations of them.
EXPORT(screen_float32)(const int32_t* scores, const float* x, const float* weight, const float* bias, const float* length,
                       const float* lost, int64_t n, int64_t m, int64_t d, int64_t k, int64_t* index, float* value, int threads) {
    screen(scores, x, {weight, bias, length, lost, m, d}, n, k, index, value, threads);
}
EXPORT(screen_bfloat16)(const int16_t* scores, const float* x, const float* weight, const float* bias, const float* length,
                        const float* lost, int64_t n, int64_t m, int64_t d, int64_t k, int64_t* index, float* value, int threads) {
    screen(scores, x, {weight, bias, length, lost, m, d}, n, k, index, value, threads);
}
