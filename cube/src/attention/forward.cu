// softmax(scores) values for a tile of queries, with the largest score and the sum so far corrected from tile to tile (Milakov and
// Gimelshein 2018, arXiv 1805.02867; Dao 2023, arXiv 2307.08691). A warp has 16 queries and all columns.
constexpr int THREADS = ROWS / 16 * 32;

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_forward(number const* q, number const* k, number const* v, int const* seen, number* out, float* log_sums, Shape s) {
    extern __shared__ __align__(16) char room[];
    number* queries = reinterpret_cast<number*>(room);
    number* keys = queries + ROWS * PAD;
    number* values = keys + OTHER * PAD;
    int head = blockIdx.y, key_head = head / (s.heads / s.key_heads), batch = blockIdx.z, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    // The last rows have most to do and begin first.
    int first = (gridDim.x - 1 - blockIdx.x) * ROWS, begin = first + s.keys - s.queries;
    Seen sees(seen, s, batch);
    k += batch * s.k.batch + key_head * s.k.head;
    v += batch * s.v.batch + key_head * s.v.head;
    auto next = [&](int start) {
        while (start < s.keys && start < begin + ROWS && !sees.any(begin, ROWS, start, OTHER, s)) start += OTHER;
        return start;
    };
    int start = next(0), end = min(begin + ROWS, s.keys);
    bring<ROWS, THREADS>(queries, q + batch * s.q.batch + head * s.q.head, s.q.position, first, s.queries);
    bring<OTHER, THREADS>(keys, k, s.k.position, start, s.keys);
    brought();
    bring<OTHER, THREADS>(values, v, s.v.position, start, s.keys);
    brought();
    float sum[D / 8][4] = {}, most[2] = {HIDDEN, HIDDEN}, total[2] = {0, 0};
    while (start < end) {
        int following = next(start + OTHER);
        here<1>();
        __syncthreads();
        float p[OTHER / 8][4] = {};
        rows_by_rows(p, queries + warp * 16 * PAD, keys);
        __syncthreads();
        if (following < end) bring<OTHER, THREADS>(keys, k, s.k.position, following, s.keys);
        brought();
        bool whole = sees.all(begin, ROWS, start, OTHER, s);
        float larger[2] = {most[0], most[1]};
#pragma unroll
        for (int j = 0; j < OTHER / 8; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int query = begin + warp * 16 + lane / 4 + e / 2 * 8, key = start + j * 8 + lane % 4 * 2 + e % 2;
                float slope;
                p[j][e] = whole || sees(query, key, s) ? logit(p[j][e], s, slope) : HIDDEN;
                larger[e / 2] = fmaxf(larger[e / 2], p[j][e]);
            }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            larger[h] = row_max(larger[h]);
            float shrink = power_of_two(most[h] - larger[h]), more = 0;
#pragma unroll
            for (int j = 0; j < OTHER / 8; j++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    p[j][e] = power_of_two(p[j][e] - larger[h]);
                    more += p[j][e];
                }
            total[h] = total[h] * shrink + row_sum(more);
#pragma unroll
            for (int j = 0; j < D / 8; j++) sum[j][2 * h] *= shrink, sum[j][2 * h + 1] *= shrink;
            most[h] = larger[h];
        }
        here<1>();
        __syncthreads();
#if FLOAT
        number* shares = values + OTHER * PAD + warp * 16 * (OTHER + SPARE);
        put(shares, OTHER + SPARE, p);
        __syncwarp();
        by_columns(sum, shares, values);
#else
#pragma unroll
        for (int i = 0; i < OTHER / 16; i++) {
            unsigned a[4] = {pair(p[2 * i][0], p[2 * i][1]), pair(p[2 * i][2], p[2 * i][3]), pair(p[2 * i + 1][0], p[2 * i + 1][1]), pair(p[2 * i + 1][2], p[2 * i + 1][3])};
            step(sum, a, values + i * 16 * PAD);
        }
#endif
        __syncthreads();
        if (following < end) bring<OTHER, THREADS>(values, v, s.v.position, following, s.keys);
        brought();
        start = following;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int query = first + warp * 16 + lane / 4 + h * 8;
        if (query >= s.queries) continue;
        number* row = out + (((long long)batch * s.queries + query) * s.heads + head) * D + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < D / 8; j++) two(row + j * 8, sum[j][2 * h] / total[h], sum[j][2 * h + 1] / total[h]);
        if (lane % 4 == 0) log_sums[((long long)batch * s.heads + head) * s.queries + query] = most[h] + log2f(total[h]);
    }
}
