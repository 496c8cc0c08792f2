// The sparse part of a training step: decoding, gradients, Adam.

#include "rows.h"

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
