// The gradient of a tile of queries: all keys that they see. Of a warp's pair, each has the same 16 queries, half of the keys where
// scores are made and half of the columns where they are spread.
constexpr int THREADS = ROWS / 16 * 64;

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_queries(number const* q, number const* k, number const* v, int const* seen, number const* gradient, float const* log_sums, float const* delta, number* dq, Shape s) {
    extern __shared__ __align__(16) char room[];
    number* queries = reinterpret_cast<number*>(room);
    number* given = queries + ROWS * PAD;
    number* tiles = given + ROWS * PAD;
    number* shares = tiles + STAGES * 2 * OTHER * PAD;
    int head = blockIdx.y, key_head = head / (s.heads / s.key_heads), batch = blockIdx.z, lane = threadIdx.x % 32, warp = threadIdx.x / 64, half = threadIdx.x / 32 % 2;
    int first = (gridDim.x - 1 - blockIdx.x) * ROWS, begin = first + s.keys - s.queries;
    Seen sees(seen, s, batch);
    k += batch * s.k.batch + key_head * s.k.head;
    v += batch * s.v.batch + key_head * s.v.head;
    auto next = [&](int start) {
        while (start < s.keys && start < begin + ROWS && !sees.any(begin, ROWS, start, OTHER, s)) start += OTHER;
        return start;
    };
    int stage = 0;
    auto fetch = [&](int start, int into) {
        number* keys = tiles + into * 2 * OTHER * PAD;
        bring<OTHER, THREADS>(keys, k, s.k.position, start, s.keys);
        bring<OTHER, THREADS>(keys + OTHER * PAD, v, s.v.position, start, s.keys);
    };
    int start = next(0), end = min(begin + ROWS, s.keys);
    long long width = (long long)s.heads * D;
    bring<ROWS, THREADS>(queries, q + batch * s.q.batch + head * s.q.head, s.q.position, first, s.queries);
    bring<ROWS, THREADS>(given, gradient + batch * s.queries * width + head * D, width, first, s.queries);
    fetch(start, 0);
    brought();
    float sum[D / 16][4] = {}, log_sum[2], less[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int query = first + warp * 16 + lane / 4 + h * 8;
        long long at = ((long long)batch * s.heads + head) * s.queries + query;
        log_sum[h] = query < s.queries ? log_sums[at] : 0;
        less[h] = query < s.queries ? delta[at] : 0;
    }
    while (start < end) {
        int following = next(start + OTHER);
        if (STAGES == 2 && following < end) fetch(following, stage ^ 1);
        brought();
        // With room for one tile alone, what was closed last is empty.
        here<1>();
        __syncthreads();
        number* keys = tiles + stage * 2 * OTHER * PAD;
        number* values = keys + OTHER * PAD;
        float p[OTHER / 16][4] = {}, d[OTHER / 16][4] = {};
        rows_by_rows(p, queries + warp * 16 * PAD, keys + half * (OTHER / 2) * PAD);
        rows_by_rows(d, given + warp * 16 * PAD, values + half * (OTHER / 2) * PAD);
        bool whole = sees.all(begin, ROWS, start, OTHER, s);
#pragma unroll
        for (int j = 0; j < OTHER / 16; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int query = begin + warp * 16 + lane / 4 + e / 2 * 8, key = start + half * (OTHER / 2) + j * 8 + lane % 4 * 2 + e % 2;
                float slope, score = logit(p[j][e], s, slope);
                d[j][e] = whole || sees(query, key, s) ? power_of_two(score - log_sum[e / 2]) * (d[j][e] - less[e / 2]) * slope : 0.0f;
            }
        put(shares + warp * 16 * (OTHER + SPARE) + half * (OTHER / 2), OTHER + SPARE, d);
        __syncthreads();
        by_columns(sum, shares + warp * 16 * (OTHER + SPARE), keys + half * (D / 2));
        __syncthreads();
        if (STAGES == 2) stage ^= 1;
        else if (following < end) fetch(following, 0), brought();
        start = following;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int query = first + warp * 16 + lane / 4 + h * 8;
        if (query >= s.queries) continue;
        number* row = dq + (((long long)batch * s.queries + query) * s.heads + head) * D + half * (D / 2) + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < D / 16; j++) two(row + j * 8, sum[j][2 * h] * s.scale, sum[j][2 * h + 1] * s.scale);
    }
}
