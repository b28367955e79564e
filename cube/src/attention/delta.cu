// The sum of output times its gradient, of every query and head: what each of its scores' gradients is lessened by. A warp a sum.
extern "C" __global__ void __launch_bounds__(128) attention_delta(number const* out, number const* gradient, float* delta, Shape s, int sums) {
    int at = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (at >= sums) return;
    out += (long long)at * D;
    gradient += (long long)at * D;
    float sum = 0;
    for (int i = lane; i < D; i += 32) sum += one(out[i]) * one(gradient[i]);
#pragma unroll
    for (int by = 16; by; by /= 2) sum += __shfl_xor_sync(0xffffffff, sum, by);
    int head = at % s.heads, query = at / s.heads % s.queries, batch = at / s.heads / s.queries;
    if (lane == 0) delta[((long long)batch * s.heads + head) * s.queries + query] = sum;
}
