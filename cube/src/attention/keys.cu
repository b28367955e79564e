// The gradients of a tile of keys and values: all queries that see them, of all heads that share them, in a fixed order. Of a warp's
// pair, each has the same 16 keys, half of the queries where scores are made and half of the columns where they are spread.
constexpr int THREADS = ROWS / 16 * 64;

extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_keys(number const* q, number const* k, number const* v, int const* seen, number const* gradient, float const* log_sums, float const* delta, number* dk, number* dv, Shape s) {
    extern __shared__ __align__(16) char room[];
    number* keys = reinterpret_cast<number*>(room);
    number* values = keys + ROWS * PAD;
    number* tiles = values + ROWS * PAD;
    number* shares = tiles + STAGES * 2 * OTHER * PAD;
    number* slopes = shares + ROWS * (OTHER + SPARE);
    int key_head = blockIdx.y, group = s.heads / s.key_heads, batch = blockIdx.z, lane = threadIdx.x % 32, warp = threadIdx.x / 64, half = threadIdx.x / 32 % 2;
    int start = blockIdx.x * ROWS, before = s.keys - s.queries;
    Seen sees(seen, s, batch);
    long long width = (long long)s.heads * D;
    q += batch * s.q.batch + key_head * group * s.q.head;
    gradient += batch * s.queries * width + key_head * group * D;
    log_sums += ((long long)batch * s.heads + key_head * group) * s.queries;
    delta += ((long long)batch * s.heads + key_head * group) * s.queries;
    // Tiles of queries of one head after another: the place of one is `head * tiles + tile`.
    int of_head = (s.queries + OTHER - 1) / OTHER, end = group * of_head;
    auto next = [&](int place) {
        while (place < end && !sees.any(before + place % of_head * OTHER, OTHER, start, ROWS, s)) place++;
        return place;
    };
    auto fetch = [&](int place, int into) {
        int head = place / of_head, first = place % of_head * OTHER;
        number* queries = tiles + into * 2 * OTHER * PAD;
        bring<OTHER, THREADS>(queries, q + head * s.q.head, s.q.position, first, s.queries);
        bring<OTHER, THREADS>(queries + OTHER * PAD, gradient + head * D, width, first, s.queries);
    };
    int stage = 0, place = next(0);
    bring<ROWS, THREADS>(keys, k + batch * s.k.batch + key_head * s.k.head, s.k.position, start, s.keys);
    bring<ROWS, THREADS>(values, v + batch * s.v.batch + key_head * s.v.head, s.v.position, start, s.keys);
    if (place < end) fetch(place, 0);
    brought();
    float for_keys[D / 16][4] = {}, for_values[D / 16][4] = {};
    while (place < end) {
        int following = next(place + 1);
        if (STAGES == 2 && following < end) fetch(following, stage ^ 1);
        brought();
        // With room for one tile alone, what was closed last is empty.
        here<1>();
        __syncthreads();
        number* queries = tiles + stage * 2 * OTHER * PAD;
        number* given = queries + OTHER * PAD;
        float p[OTHER / 16][4] = {}, d[OTHER / 16][4] = {};
        rows_by_rows(p, keys + warp * 16 * PAD, queries + half * (OTHER / 2) * PAD);
        rows_by_rows(d, values + warp * 16 * PAD, given + half * (OTHER / 2) * PAD);
        int first = place % of_head * OTHER;
        long long row = (long long)(place / of_head) * s.queries;
        bool whole = sees.all(before + first, OTHER, start, ROWS, s);
#pragma unroll
        for (int j = 0; j < OTHER / 16; j++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int key = start + warp * 16 + lane / 4 + e / 2 * 8, query = first + half * (OTHER / 2) + j * 8 + lane % 4 * 2 + e % 2;
                bool seen = whole || sees(before + query, key, s);
                float slope, score = logit(p[j][e], s, slope);
                p[j][e] = seen ? power_of_two(score - log_sums[row + query]) : 0.0f;
                d[j][e] = seen ? p[j][e] * (d[j][e] - delta[row + query]) * slope : 0.0f;
            }
        int own = warp * 16 * (OTHER + SPARE);
        put(shares + own + half * (OTHER / 2), OTHER + SPARE, p);
        put(slopes + own + half * (OTHER / 2), OTHER + SPARE, d);
        __syncthreads();
        by_columns(for_values, shares + own, given + half * (D / 2));
        by_columns(for_keys, slopes + own, queries + half * (D / 2));
        __syncthreads();
        if (STAGES == 2) stage ^= 1;
        else if (following < end) fetch(following, 0), brought();
        place = following;
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int key = start + warp * 16 + lane / 4 + h * 8;
        if (key >= s.keys) continue;
        long long row = (((long long)batch * s.keys + key) * s.key_heads + key_head) * D + half * (D / 2) + lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < D / 16; j++) {
            two(dk + row + j * 8, for_keys[j][2 * h] * s.scale, for_keys[j][2 * h + 1] * s.scale);
            two(dv + row + j * 8, for_values[j][2 * h], for_values[j][2 * h + 1]);
        }
    }
}
