/* The plain case in C, for benchmarks/simulator.py: the same Philox4x32-10 blocks, one logarithm per acquisition and
 * the same closed-form schedule as simulator/engine/plain.py.  Compiled with gcc -O3 -march=native, called through
 * ctypes (which releases the interpreter lock).  No allocation; one row per quantity, like the engine. */
#include <math.h>
#include <stdint.h>

/* fmin and fmax are library calls under gcc -O3, for the sake of NaN: these are one instruction each. */
static inline double smaller(double a, double b) { return a < b ? a : b; }
static inline double larger(double a, double b) { return a > b ? a : b; }

static inline double unit(uint32_t a, uint32_t b) {
    return smaller(((double)(int64_t)(((uint64_t)(a >> 5) << 26) | (b >> 6)) + 0.5) * 0x1p-53, 1.0 - 0x1p-53);
}

static inline double first_uniform(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return unit(c0, c1);
}

enum { MAKESPAN, COST, INTERRUPTIONS, LOST, CHECKPOINT, STARTUP, WAITING, NOTICE_IDLE, SLOWDOWN, REDUCED, OUTAGE,
       RECLAIMED, STORAGE, BILLED };

void plain_runs(double work, double interval, double stall, double persist, double startup, double rate,
                double provision, double price, uint64_t seed, int64_t first_run, int64_t runs, int64_t stride,
                double *out) {
    const double tolerance = 1e-6 / 3600.0, mean = 1.0 / rate, final = stall + persist;
    const double cycle = larger(interval, persist), cycle_time = final + larger(interval - persist, 0.0);
    const double per_cycle = 1.0 / cycle, per_cycle_time = 1.0 / cycle_time;
    const uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int64_t i = 0; i < runs; i++) {
        const uint32_t run = (uint32_t)(first_run + i);
        uint32_t acquisition = 0;
        double progress = 0, clock = 0, lost = 0, saving = 0, starting = 0, waiting = 0, billed = 0;
        int64_t interruptions = 0;
        for (;;) {
            const double life = -log(first_uniform(acquisition++, 0, run, 0, k0, k1)) * mean;
            waiting += provision;
            clock += provision;
            if (life + tolerance < startup) {
                starting += life;
            } else {
                const double trained = larger(life - startup, 0.0), remaining = work - progress;
                double limit = INFINITY;
                starting += startup;
                if (trained + tolerance >= remaining) {
                    double count = ceil((remaining - tolerance - interval) * per_cycle), reached = remaining, wait = 0;
                    if (count >= 1) {
                        const double rest = remaining - interval - (count - 1) * cycle;
                        reached = interval + (count - 1) * cycle_time + stall + rest;
                        wait = persist - smaller(rest, persist);
                    } else {
                        count = 0;
                    }
                    const double finish = reached + wait + final;
                    if (trained >= finish - tolerance) {
                        saving += count * stall + wait + final;
                        billed += startup + finish;
                        clock += startup + finish;
                        break;
                    }
                    if (trained + tolerance >= reached) {
                        double kept = progress, durable = count;
                        saving += count * stall + trained - reached;
                        if (count >= 1) {
                            if (trained < interval + (count - 1) * cycle_time + final - tolerance) durable -= 1;
                            if (durable >= 1) kept = progress + interval + (durable - 1) * cycle;
                        }
                        lost += work - kept;
                        progress = kept;
                        interruptions++;
                        billed += life;
                        clock += life;
                        continue;
                    }
                    limit = count - 1;
                }
                if (trained + tolerance < interval) {
                    lost += trained;
                } else {
                    const double index = smaller(floor((trained - interval + tolerance) * per_cycle_time), limit);
                    const double within = larger(trained - interval - index * cycle_time, 0.0);
                    const double durable = within >= final - tolerance ? index + 1 : index;
                    const double kept = durable >= 1 ? progress + interval + (durable - 1) * cycle : progress;
                    saving += index * stall + smaller(within, stall);
                    lost += progress + interval + index * cycle + larger(within - stall, 0.0) - kept;
                    progress = kept;
                }
            }
            interruptions++;
            billed += life;
            clock += life;
        }
        out[MAKESPAN * stride + i] = clock;
        out[COST * stride + i] = billed * price;
        out[INTERRUPTIONS * stride + i] = (double)interruptions;
        out[LOST * stride + i] = lost;
        out[CHECKPOINT * stride + i] = saving;
        out[STARTUP * stride + i] = starting;
        out[WAITING * stride + i] = waiting;
        for (int row = NOTICE_IDLE; row <= OUTAGE; row++) out[row * stride + i] = 0;
        out[RECLAIMED * stride + i] = (double)interruptions;
        out[STORAGE * stride + i] = 0;
        out[BILLED * stride + i] = billed;
    }
}
