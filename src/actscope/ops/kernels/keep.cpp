// The largest entries of every latent, as they come.

#include "rows.h"

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
