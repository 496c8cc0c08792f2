// The k largest products of a row in bfloat16, by way of int8.

#include "rows.h"

namespace {

// Steps and lengths of an encoder in bfloat16 whose copy is in int8, and the largest of both.
struct Steps {
    const float *step, *length, *bias;
    float widest = 0.0f, longest = 0.0f;
    bool finite = true;

    Steps(const float* step, const float* length, const float* bias, int64_t m) : step(step), length(length), bias(bias) {
        for (int64_t j = 0; j < m; ++j) {
            widest = std::max(widest, step[j]), longest = std::max(longest, length[j]);
            finite &= std::isfinite(step[j]) && std::isfinite(bias[j]);
        }
    }
};

// e_j: how far off the approximation t_j = step * step_j * (sum of int8 products) + b_j may be from x . w_j + b_j. Rounding to int8 is
// off by at most half a step in every coordinate, now up, now down: t_j is off by a sum of many small errors, of variance
//     step^2 |w_j|^2 / 12 + step_j^2 |x|^2 / 12
// and by six times its root next to never. A little more, for sums in float32.
inline float off_by(float step, float length, float of_step, float of_length) {
    const float one = step * of_length, other = of_step * length;
    return 6.0f * std::sqrt((one * one + other * other) / 12.0f) + 1e-5f * length * of_length;
}

// Collects the latents that can be among the k largest of a row whose approximations come in pieces: all whose t_j is above zero and
// less than 2 e below the k-th largest so far, e the largest of all e_j.
class Sieve {
  public:
    Sieve(const Steps& of, int64_t m, int64_t k, int64_t room)
        : of_(of), m_(m), k_(k), room_(room), row_(m), best_((m + BLOCK - 1) / BLOCK), bits_(best_), where_(m), order_(m + room) {}

    // count: how many `among` and `near` hold; -1 where a number is none, or they are more than there is room for.
    void piece(const int32_t* sums, float step, float length, int64_t offset, int64_t* among, float* near, int64_t& count) {
        if (count < 0) return;
        if (!of_.finite || std::isnan(step)) {
            count = -1;
            return;
        }
        approximate(sums, step, offset);
        const float margin = 2.0f * off_by(step, length, of_.widest, of_.longest);
        float kth = largest(near, count, nullptr, 0);
        if (count < k_ && static_cast<int64_t>(best_.size()) >= k_) {  // the k-th largest maximum of a block is no higher
            std::copy(best_.begin(), best_.end(), bits_.begin());
            std::nth_element(bits_.begin(), bits_.begin() + (k_ - 1), bits_.end(), std::greater<int32_t>());
            kth = std::max(kth, number(bits_[k_ - 1]));
        }
        int64_t more = found(row_.data(), m_, best_, above(kth - margin), where_);
        if (count + more > room_) {  // the k-th largest of all is higher still
            kth = largest(near, count, where_.data(), more);
            int64_t kept = 0;
            for (int64_t i = 0; i < count; ++i) {
                if (near[i] >= kth - margin) among[kept] = among[i], near[kept++] = near[i];
            }
            count = kept, kept = 0;
            for (int64_t i = 0; i < more; ++i) {
                if (number(row_[where_[i]]) >= kth - margin) where_[kept++] = where_[i];
            }
            more = kept;
            if (count + more > room_) {
                count = -1;
                return;
            }
        }
        for (int64_t i = 0; i < more; ++i) among[count] = offset + where_[i], near[count++] = number(row_[where_[i]]);
    }

  private:
    void approximate(const int32_t* sums, float step, int64_t offset) {
        const int64_t whole = m_ / BLOCK;
        for (int64_t b = 0; b < whole; ++b) block(sums, step, offset, b, BLOCK);
        if (whole * BLOCK < m_) block(sums, step, offset, whole, m_ - whole * BLOCK);
    }

    inline __attribute__((always_inline)) void block(const int32_t* sums, float step, int64_t offset, int64_t b, int64_t many) {
        const float *steps = of_.step + offset + b * BLOCK, *bias = of_.bias + offset + b * BLOCK;
        int32_t here[BLOCK], top = 0;
        for (int64_t i = 0; i < many; ++i) {
            const float t = step * steps[i] * static_cast<float>(sums[b * BLOCK + i]) + bias[i];
            std::memcpy(here + i, &t, 4);
        }
        for (int64_t i = 0; i < many; ++i) top = std::max(top, here[i]);
        std::memcpy(row_.data() + b * BLOCK, here, many * 4);
        best_[b] = top;
    }

    static int32_t above(float bound) {  // as an integer, and above zero
        int32_t bits;
        std::memcpy(&bits, &bound, 4);
        return bound > 0.0f ? bits : 1;
    }

    // The k-th largest of some numbers and of those of the row that `where` names; 0 where they are fewer.
    float largest(const float* near, int64_t count, const int64_t* where, int64_t more) {
        if (count + more < k_) return 0.0f;
        std::copy(near, near + count, order_.begin());
        for (int64_t i = 0; i < more; ++i) order_[count + i] = number(row_[where[i]]);
        std::nth_element(order_.begin(), order_.begin() + (k_ - 1), order_.begin() + count + more, std::greater<float>());
        return order_[k_ - 1];
    }

    const Steps& of_;
    int64_t m_, k_, room_;
    std::vector<int32_t> row_, best_, bits_;
    std::vector<int64_t> where_;
    std::vector<float> order_;
};

// The k largest of x . w_j + b_j above zero, products of bfloat16 numbers summed in float32, among the latents that a Sieve kept: of
// them only those whose t_j + e_j reaches the k-th largest t_j - e_j are computed.
class Coarse {
  public:
    Coarse(const Steps& of, const int16_t* weight, int64_t d, int64_t k, int64_t room)
        : of_(of), weight_(weight), d_(d), k_(k), x_(d), off_(room), order_(room) {
        all_.reserve(room);
    }

    // False where a latent that the sieve let go could be one of the k.
    bool row(const int64_t* among, const float* near, int64_t count, const int16_t* x, float step, float length, int64_t* index,
             float* value) {
        if (count < k_) return false;
        for (int64_t j = 0; j < count; ++j) {
            off_[j] = off_by(step, length, of_.step[among[j]], of_.length[among[j]]);
            order_[j] = near[j] - off_[j];
        }
        std::nth_element(order_.begin(), order_.begin() + (k_ - 1), order_.begin() + count, std::greater<float>());
        const float least = order_[k_ - 1];
        if (!(least > off_by(step, length, of_.widest, of_.longest))) return false;  // some below zero could be above it
        all_.clear();
        for (int64_t j = 0; j < count; ++j) {
            if (near[j] + off_[j] >= least) all_.push_back({0.0f, among[j]});
        }
        compute(x);
        auto before = [](const Entry& a, const Entry& b) { return a.value != b.value ? a.value > b.value : a.index < b.index; };
        std::nth_element(all_.begin(), all_.begin() + (k_ - 1), all_.end(), before);
        for (int64_t j = 0; j < k_; ++j) index[j] = all_[j].index, value[j] = std::max(all_[j].value, 0.0f);
        return true;
    }

  private:
    static constexpr size_t AHEAD = 3;  // rows of weights that are on their way from memory

    void compute(const int16_t* x) {
        for (int64_t c = 0; c < d_; ++c) x_[c] = number(x[c]);
        for (size_t e = 0; e < all_.size(); ++e) {
            if (e + AHEAD < all_.size()) {
                const char* next = reinterpret_cast<const char*>(weight_ + all_[e + AHEAD].index * d_);
                for (int64_t c = 0; c < d_ * 2; c += 64) __builtin_prefetch(next + c, 0, 2);
            }
            const int16_t* w = weight_ + all_[e].index * d_;
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int64_t c = 0; c < d_; ++c) sum += x_[c] * number(w[c]);
            all_[e].value = sum + of_.bias[all_[e].index];
        }
    }

    const Steps& of_;
    const int16_t* weight_;
    int64_t d_, k_;
    std::vector<float> x_, off_, order_;
    std::vector<Entry> all_;
};

}  // namespace

// Rows of bfloat16 as int8 times a step of their own, step = max |row| / 127; length: |row|. Where one is not finite step is NaN.
EXPORT(quantise)(const int16_t* rows, int64_t n, int64_t d, int8_t* to, float* step, float* length, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t i = 0; i < n; ++i) {
        const int16_t* row = rows + i * d;
        int16_t size = 0;
        for (int64_t c = 0; c < d; ++c) size = std::max(size, static_cast<int16_t>(row[c] & 0x7fff));
        const bool finite = size < 0x7f80;
        const float most = number(size), times = finite && most > 0.0f ? 127.0f / most : 0.0f;
        float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
        for (int64_t c = 0; c < d; ++c) {
            const float one = number(row[c]);
            squares += one * one;
            to[i * d + c] = static_cast<int8_t>(std::nearbyint(finite ? one * times : 0.0f));
        }
        step[i] = finite ? most / 127.0f : std::numeric_limits<float>::quiet_NaN();
        length[i] = std::sqrt(squares);
    }
}

// Adds to `among` and `near` the latents of a piece, from `offset` on, that can be among the k largest of each row, as Sieve has it.
// sums: int8 products summed. count: of each row, 0 before the first piece. wide: latents of the piece, of m in all.
EXPORT(sieve)(const int32_t* sums, const float* row_step, const float* row_length, const float* step, const float* length,
              const float* bias, int64_t n, int64_t m, int64_t wide, int64_t offset, int64_t k, int64_t room, int64_t* among, float* near,
              int64_t* count, int threads) {
    const Steps of(step, length, bias, m);
#pragma omp parallel num_threads(threads)
    {
        Sieve one(of, wide, k, room);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; ++i) {
            one.piece(sums + i * wide, row_step[i], row_length[i], offset, among + i * room, near + i * room, count[i]);
        }
    }
}

// The k largest of x . w_j + b_j above zero in every row, as Coarse finds them among those that `sieve` kept. doubtful: rows of which
// others could be among the k largest; nothing is written for them.
EXPORT(rescore)(const int64_t* among, const float* near, const int64_t* count, const int16_t* x, const float* row_step,
                const float* row_length, const int16_t* weight, const float* step, const float* length, const float* bias, int64_t n,
                int64_t m, int64_t d, int64_t k, int64_t room, int64_t* index, float* value, uint8_t* doubtful, int threads) {
    const Steps of(step, length, bias, m);
#pragma omp parallel num_threads(threads)
    {
        Coarse one(of, weight, d, k, room);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < n; ++i) {
            const int64_t at = i * room, to = i * k;
            doubtful[i] = !one.row(among + at, near + at, count[i], x + i * d, row_step[i], row_length[i], index + to, value + to);
        }
    }
}
