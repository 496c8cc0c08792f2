// Loops that torch has no operator for. Each has a twin in Python (the file of ops/ that calls it) and an equality test.
//
// Built by hatch_build.py once per instruction set, -DISA naming it, into one library with neither Python nor torch in it: arrays come
// as pointers, contiguous, checked by the caller. What a row or a latent gets is computed by one thread from start to end, so results
// do not depend on how many threads there are.
//
// Letters: n rows, d width read, o width written, m latents, k active a row.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define EXPORT(name) extern "C" __attribute__((visibility("default"))) void JOIN(ISA, _##name)

namespace {

constexpr int64_t BLOCK = 32;  // neighbouring latents that share one maximum

inline float number(int32_t bits) {
    float out;
    std::memcpy(&out, &bits, 4);
    return out;
}
inline float number(int16_t bits) { return number(static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint16_t>(bits)) << 16)); }

inline int16_t rounded(float value) {  // to bfloat16, nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    return static_cast<int16_t>(nan ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// Every block's largest number above zero, else 0. True if the row holds a NaN.
template <class Bits>
bool maxima(const Bits* row, int64_t m, std::vector<Bits>& best) {
    constexpr Bits sign = std::numeric_limits<Bits>::max();  // all bits but the sign
    constexpr Bits inf = static_cast<Bits>(sizeof(Bits) == 4 ? 0x7f800000 : 0x7f80);
    Bits largest = 0;
    for (int64_t b = 0; b < static_cast<int64_t>(best.size()); ++b) {
        const Bits* at = row + b * BLOCK;
        Bits top = 0, size = 0;
        if ((b + 1) * BLOCK <= m) {
            for (int64_t i = 0; i < BLOCK; ++i) top = std::max(top, at[i]), size = std::max(size, static_cast<Bits>(at[i] & sign));
        } else {
            for (int64_t i = 0; i < m - b * BLOCK; ++i) top = std::max(top, at[i]), size = std::max(size, static_cast<Bits>(at[i] & sign));
        }
        best[b] = top;
        largest = std::max(largest, size);
    }
    return largest > inf;
}

inline float dot(const float* a, const float* b, int64_t d) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < d; ++i) sum += a[i] * b[i];
    return sum;
}

inline double exactly(const float* a, const float* b, int64_t d) {  // a product of two floats is exact in double
    const int64_t q = d / 4;  // four sums side by side, so that none waits for the one before
    double one = 0.0, two = 0.0, three = 0.0, four = 0.0;
#pragma omp simd reduction(+ : one, two, three, four)
    for (int64_t i = 0; i < q; ++i) {
        one += static_cast<double>(a[i]) * b[i];
        two += static_cast<double>(a[q + i]) * b[q + i];
        three += static_cast<double>(a[2 * q + i]) * b[2 * q + i];
        four += static_cast<double>(a[3 * q + i]) * b[3 * q + i];
    }
    for (int64_t i = 4 * q; i < d; ++i) one += static_cast<double>(a[i]) * b[i];
    return (one + two) + (three + four);
}

inline void add(float* to, float scale, const float* from, int64_t d) {
#pragma omp simd
    for (int64_t i = 0; i < d; ++i) to[i] += scale * from[i];
}

struct Entry {
    float value;
    int64_t index;
};

// From `held` on, entries of value 0 that name the lowest latents not among those before.
inline void fill(int64_t* index, float* value, int64_t held, int64_t k) {
    for (int64_t j = held, spare = 0; j < k; ++spare) {
        if (std::find(index, index + held, spare) == index + held) index[j] = spare, value[j++] = 0.0f;
    }
}

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
        int64_t count = 0;
        for (int64_t b = 0; b < blocks_; ++b) {
            if (best_[b] < bound) continue;
            for (int64_t i = b * BLOCK; i < std::min(m_, (b + 1) * BLOCK); ++i) {
                found_[count] = i;
                count += row[i] >= bound;
            }
        }
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
            for (int64_t b = 0; b < blocks; ++b) {
                if (best_[b] < least) continue;
                for (int64_t j = b * BLOCK; j < std::min(of_.m, (b + 1) * BLOCK); ++j) {
                    found_[count] = j;
                    count += scores[j] >= least;
                }
            }
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

// error = codes @ atoms + offset - target; slope = factor * error . atom for every active latent, 0 for the others;
// squares = |error|^2 of every row.
EXPORT(rebuild)(const int64_t* index, const float* value, const float* atoms, const float* offset, const float* target, int64_t n,
                int64_t o, int64_t k, float factor, float* error, float* slope, double* squares, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; ++i) {
        float* e = error + i * o;
        const float* t = target + i * o;
        for (int64_t c = 0; c < o; ++c) e[c] = offset[c] - t[c];
        for (int64_t j = i * k; j < (i + 1) * k; ++j) {
            if (value[j] != 0.0f) add(e, value[j], atoms + index[j] * o, o);
        }
        for (int64_t j = i * k; j < (i + 1) * k; ++j) slope[j] = value[j] != 0.0f ? factor * dot(e, atoms + index[j] * o, o) : 0.0f;
        squares[i] = dot(e, e, o);
    }
}

// The entries of every latent: place[ends[j] : ends[j + 1]] are the numbers of those with index j and a value other than 0, ascending.
EXPORT(group)(const int64_t* index, const float* value, int64_t entries, int64_t m, int64_t* ends, int32_t* place) {
    std::fill(ends, ends + m + 1, 0);
    for (int64_t e = 0; e < entries; ++e) ends[index[e] + 1] += value[e] != 0.0f;
    for (int64_t j = 0; j < m; ++j) ends[j + 1] += ends[j];
    std::vector<int64_t> next(ends, ends + m);
    for (int64_t e = 0; e < entries; ++e) {
        if (value[e] != 0.0f) place[next[index[e]]++] = static_cast<int32_t>(e);
    }
}

// sums[j] = factor * the sum over latent j's entries e of weight[e] * rows[e / k]; where `atoms` is given, less its part along atom j;
// squares[j] = |sums[j]|^2.
EXPORT(gather)(const int64_t* ends, const int32_t* place, const float* weight, const float* rows, const float* atoms, int64_t m,
               int64_t d, int64_t k, float factor, float* sums, double* squares, int threads) {
#pragma omp parallel for schedule(dynamic, 64) num_threads(threads)
    for (int64_t j = 0; j < m; ++j) {
        float* to = sums + j * d;
        std::fill(to, to + d, 0.0f);
        squares[j] = 0.0;
        if (ends[j] == ends[j + 1]) continue;
        for (int64_t e = ends[j]; e < ends[j + 1]; ++e) {
            if (e + 1 < ends[j + 1]) {
                const char* next = reinterpret_cast<const char*>(rows + (place[e + 1] / k) * d);
                for (int64_t c = 0; c < d * 4; c += 64) __builtin_prefetch(next + c);
            }
            add(to, factor * weight[place[e]], rows + (place[e] / k) * d, d);
        }
        if (atoms != nullptr) add(to, -dot(to, atoms + j * d, d), atoms + j * d, d);
        squares[j] = dot(to, to, d);
    }
}

// One step of Adam on rows of d parameters, gradients first divided by `divisor`. unit: rows are then set back to length 1.
// shadow: where given, gets the new parameters rounded to bfloat16.
EXPORT(adam)(float* parameter, const float* grad, float* first, float* second, int64_t rows, int64_t d, float divisor, float rate,
             float beta1, float beta2, float eps, double steps, int unit, int16_t* shadow, int threads) {
    const float step = static_cast<float>(rate / (1.0 - std::pow(static_cast<double>(beta1), steps)));
    const float root = static_cast<float>(std::sqrt(1.0 - std::pow(static_cast<double>(beta2), steps)));
    const float share = 1.0f / divisor;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t j = 0; j < rows; ++j) {
        float* p = parameter + j * d;
        float* one = first + j * d;
        float* two = second + j * d;
        const float* g = grad + j * d;
#pragma omp simd
        for (int64_t c = 0; c < d; ++c) {
            const float given = g[c] * share;
            one[c] += (given - one[c]) * (1.0f - beta1);
            two[c] = two[c] * beta2 + given * given * (1.0f - beta2);
            p[c] -= step * one[c] / (std::sqrt(two[c]) / root + eps);
        }
        if (unit) {
            const float length = std::sqrt(dot(p, p, d));
            const float times = 1.0f / std::max(length, std::numeric_limits<float>::min());
#pragma omp simd
            for (int64_t c = 0; c < d; ++c) p[c] *= times;
        }
        if (shadow != nullptr) {
            for (int64_t c = 0; c < d; ++c) shadow[j * d + c] = rounded(p[c]);
        }
    }
}

// Takes entries into the n largest keys of every latent, in `held` (-1 where there is none yet); keys differ and are not negative.
// least: the smallest of a latent once there are n, before that -1. documents: where given, at most `most` entries of one document
// stay, and held_documents says whose each is. slot: where an entry stands after all of them, -1 where it does not.
EXPORT(keep)(const int64_t* latents, const int64_t* keys, const int64_t* documents, int64_t entries, int64_t m, int64_t n, int64_t most,
             int64_t* held, int64_t* least, int64_t* held_documents, int64_t* slot, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t part = 0; part < threads; ++part) {  // each thread has latents of its own, and looks at all entries for them
        const int64_t from = m * part / threads, to = m * (part + 1) / threads;
        for (int64_t e = 0; e < entries; ++e) {
            const int64_t j = latents[e];
            if (j < from || j >= to) continue;
            slot[e] = -1;
            if (keys[e] <= least[j]) continue;
            int64_t *row = held + j * n, place = -1, same = 0;
            if (documents) {
                for (int64_t i = 0; i < n; ++i) {
                    if (row[i] < 0 || held_documents[j * n + i] != documents[e]) continue;
                    ++same;
                    if (place < 0 || row[i] < row[place]) place = i;
                }
            }
            if (documents && same >= most) {
                if (row[place] > keys[e]) continue;
            } else {
                place = std::min_element(row, row + n) - row;
            }
            row[place] = keys[e];
            if (documents) held_documents[j * n + place] = documents[e];
            slot[e] = place;
            least[j] = *std::min_element(row, row + n);
        }
        for (int64_t e = 0; e < entries; ++e) {
            const int64_t j = latents[e];
            if (j >= from && j < to && slot[e] >= 0 && held[j * n + slot[e]] != keys[e]) slot[e] = -1;
        }
    }
}
