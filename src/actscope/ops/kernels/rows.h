// What the kernels share, and how they are built: by hatch_build.py once per instruction set, -DISA naming it, into one library with
// neither Python nor torch in it. Arrays come as pointers, contiguous, checked by the caller. What a row or a latent gets is computed
// by one thread from start to end, so results do not depend on how many threads there are. Each kernel has a twin in Python (the file
// of ops/ that calls it) and an equality test.
//
// Letters: n rows, d width read, o width written, m latents, k active a row.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

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
inline bool maxima(const Bits* row, int64_t m, std::vector<Bits>& best) {
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

// Bit i: whether at[i] is at least `bound`; for the n <= BLOCK numbers of a block.
inline uint32_t reaching(const int32_t* at, int64_t n, int32_t bound) {
#ifdef __AVX512F__
    if (n == BLOCK) {
        const __m512i least = _mm512_set1_epi32(bound);
        const uint32_t low = _mm512_cmpge_epi32_mask(_mm512_loadu_si512(at), least);
        return low | static_cast<uint32_t>(_mm512_cmpge_epi32_mask(_mm512_loadu_si512(at + 16), least)) << 16;
    }
#endif
    uint32_t out = 0;
    for (int64_t i = 0; i < n; ++i) out |= static_cast<uint32_t>(at[i] >= bound) << i;
    return out;
}
inline uint32_t reaching(const int16_t* at, int64_t n, int16_t bound) {
#ifdef __AVX512BW__
    if (n == BLOCK) return _mm512_cmpge_epi16_mask(_mm512_loadu_si512(at), _mm512_set1_epi16(bound));
#endif
    uint32_t out = 0;
    for (int64_t i = 0; i < n; ++i) out |= static_cast<uint32_t>(at[i] >= bound) << i;
    return out;
}

// The numbers of a row that are at least `bound`, and not in a block whose maximum is less; how many.
template <class Bits>
inline int64_t found(const Bits* row, int64_t m, const std::vector<Bits>& best, Bits bound, std::vector<int64_t>& where) {
    int64_t count = 0;
    for (int64_t b = 0; b < static_cast<int64_t>(best.size()); ++b) {
        if (best[b] < bound) continue;
        const int64_t from = b * BLOCK;
        for (uint32_t left = reaching(row + from, std::min(BLOCK, m - from), bound); left; left &= left - 1) {
            where[count++] = from + __builtin_ctz(left);
        }
    }
    return count;
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

}  // namespace
