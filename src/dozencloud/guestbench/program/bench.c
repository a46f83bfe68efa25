/* Measures what a machine does: processor, memory, system calls, processes, counters.
 *
 * It prints lines, which dozencloud.guestbench.results reads:
 *   dozenbench CPU                      which of its CPUs it stays on
 *   clock RESOLUTION_NS BACKWARDS       how often the time ran backwards
 *   sample NAME PARAMETER UNITS NS      one of several repetitions of a measure
 *   late NAME PARAMETER                 left out: the time is up
 *   small NAME PARAMETER                left out: not enough memory
 *   counter NAME VALUE ENABLED_NS RUNNING_NS | counter NAME error ERRNO
 *   counted UNITS NS                    what the counters saw: operations of `integer`
 *   failed WHAT ERRNO                   the last line then
 *   end NS                              the time since the first line, by this machine's clock
 *
 * Divisions and fractions are left to the reader: a 32-bit ARM would need a library for them.
 */

#include "system.h"

#define ROUNDS 3                  /* what else a host does comes and goes: all measures, then again */
#define SAMPLES 5                 /* of a measure in a round */
#define SAMPLE_NS 3000000ull      /* a sample lasts once to twice as long: some end before others run */
#define TICKS 100                 /* of the clock in a sample, where that is coarse */
#define LIMIT_NS 40000000000ull   /* from here on measures are left out */
#define LARGEST (64ul << 20)      /* bytes; above the caches of most machines */
#define BANDWIDTH (16ul << 20)
#define LINE 64ul                 /* bytes between two links of a pointer chase */
#define PAGES 256ul
#define NOINLINE __attribute__((noinline))

typedef uint64_t u64;
typedef uint32_t u32;
typedef unsigned long word;

static u64 began, sample_ns = SAMPLE_NS;
static size_t page_size = 4096;

/* ---- time and text ---------------------------------------------------------------------- */

struct timespec {
    long seconds, nanoseconds;
};

static u64 in_ns(struct timespec t) {
    return (u64)t.seconds * 1000000000u + (u64)t.nanoseconds;
}

static u64 now(void) {
    struct timespec t;
    call(clock_gettime, 1 /* CLOCK_MONOTONIC */, &t);
    return in_ns(t);
}

static char text[256];
static size_t length;

static void put(const char *s) {
    while (*s && length < sizeof text) text[length++] = *s++;
}

static void put_number(u64 value) {
    static const u64 powers[] = {
        10000000000000000000u, 1000000000000000000u, 100000000000000000u, 10000000000000000u,
        1000000000000000u, 100000000000000u, 10000000000000u, 1000000000000u, 100000000000u,
        10000000000u, 1000000000u, 100000000u, 10000000u, 1000000u, 100000u, 10000u, 1000u, 100u,
        10u, 1u,
    };
    int begun = 0;
    for (const u64 *power = powers;; power++) {
        char digit[2] = {'0', 0};
        for (; value >= *power; value -= *power) digit[0]++;
        begun |= digit[0] != '0' || *power == 1;
        if (begun) put(digit);
        if (*power == 1) return;
    }
}

static void field(u64 value) {
    put(" ");
    put_number(value);
}

static void end_line(void) {
    put("\n");
    call(write, 1, text, length);
    length = 0;
}

static void stop(int status) {
    call(exit_group, status);
    __builtin_unreachable();
}

static void fail(const char *what, long error) {
    put("failed ");
    put(what);
    field((u64)-error);
    end_line();
    stop(1);
}

static long must(const char *what, long result) {
    if (result < 0 && result > -4096) fail(what, result);
    return result;
}

/* ---- memory ----------------------------------------------------------------------------- */

static void *map(size_t bytes) {
    const int read_write = 3, private_anonymous = 0x22;
    return (void *)must("mmap", call(mmap, 0, bytes, read_write, private_anonymous, -1, 0));
}

static void unmap(void *start, size_t bytes) {
    call(munmap, start, bytes);
}

/* A quarter of what is free: caches of the kernel would not be worth their loss. */
static size_t spare_memory(void) {
    struct {
        long uptime;
        unsigned long loads[3], totalram, freeram, sharedram, bufferram, totalswap, freeswap;
        unsigned short procs, pad;
        unsigned long totalhigh, freehigh;
        u32 unit;
        char rest[64];
    } info;
    must("sysinfo", call(sysinfo, &info));
    u64 free = (u64)info.freeram * info.unit / 4;
    return free > LARGEST ? LARGEST : (size_t)free;
}

/* ---- what is measured -------------------------------------------------------------------- */

/* Does its work `count` times; returns how many units that was. */
typedef u64 (*kernel)(size_t count);

static volatile word sink;
static u32 state = 2463534242u;

static u32 xorshift(u32 x) {
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return x;
}

static u32 mixed(u32 x) {
    return xorshift(x) * 1664525u + 1013904223u;
}

/* Four chains of eight operations, since most programs give a processor several at a time. */
static NOINLINE u64 integer(size_t count) {
    u32 a = state, b = a + 1, c = a + 2, d = a + 3;
    for (size_t i = 0; i < count; i++) {
        a = mixed(a);
        b = mixed(b);
        c = mixed(c);
        d = mixed(d);
    }
    state = (a ^ b ^ c ^ d) | 1;
    return (u64)count * 32;
}

static NOINLINE u32 call0(u32 x) { return x + 1; }
static NOINLINE u32 call1(u32 x) { return x ^ 2; }
static NOINLINE u32 call2(u32 x) { return x - 3; }
static NOINLINE u32 call3(u32 x) { return x * 5; }

/* Calls by a pointer that nobody can predict. */
static NOINLINE u64 calls(size_t count) {
    static u32 (*volatile const functions[])(u32) = {call0, call1, call2, call3};
    u32 x = state;
    for (size_t i = 0; i < count; i++) x = functions[xorshift(x) >> 30](xorshift(x));
    state = x | 1;
    return count;
}

/* Four chains of multiply and add in double precision. */
static NOINLINE u64 floating(size_t count) {
    static volatile double seed = 1.5;
    double a = seed, b = a + 1, c = a + 2, d = a + 3;
    for (size_t i = 0; i < count; i++) {
        a = a * 0.75 + 0.5;
        b = b * 0.75 + 0.5;
        c = c * 0.75 + 0.5;
        d = d * 0.75 + 0.5;
    }
    seed = 1.5 + (a + b + c + d) * 0x1p-60;
    return (u64)count * 8;
}

static word *buffer;
static size_t buffer_bytes;

#define EIGHT(one) one(0) one(1) one(2) one(3) one(4) one(5) one(6) one(7)

static NOINLINE u64 reading(size_t count) {
    for (size_t n = 0; n < count; n++) {
        const word *p = buffer, *end = p + buffer_bytes / sizeof(word);
        word s[8] = {0};
#define READ(i) s[i] ^= p[i];
        for (; p < end; p += 8) { EIGHT(READ) }
        sink = s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
    }
    return (u64)count * buffer_bytes;
}

static NOINLINE u64 writing(size_t count) {
    for (size_t n = 0; n < count; n++) {
        word *p = buffer, *end = p + buffer_bytes / sizeof(word);
#define WRITE(i) p[i] = n;
        for (; p < end; p += 8) { EIGHT(WRITE) }
        __asm__ volatile("" ::: "memory");
    }
    return (u64)count * buffer_bytes;
}

/* From one half to the other. Units: bytes that arrive. */
static NOINLINE u64 copying(size_t count) {
    const size_t half = buffer_bytes / 2;
    for (size_t n = 0; n < count; n++) {
        word *p = buffer, *end = p + half / sizeof(word);
        const word *q = end;
#define COPY(i) p[i] = q[i];
        for (; p < end; p += 8, q += 8) { EIGHT(COPY) }
        __asm__ volatile("" ::: "memory");
    }
    return (u64)count * half;
}

static void **position;

/* Each address is known only when the load before has come back. */
static NOINLINE u64 chasing(size_t count) {
    void **p = position;
    for (size_t n = 0; n < count; n++) {
#define FOLLOW(i) p = *(void **volatile *)p;
        EIGHT(FOLLOW)
    }
    position = p;
    return (u64)count * 8;
}

/* One circle through all lines of the buffer in random order (Sattolo's algorithm), so that no
 * prefetcher guesses the way. */
static void link_lines(size_t bytes) {
    const size_t step = LINE / sizeof(word), lines = bytes / LINE;
    for (size_t i = 0; i < lines; i++) buffer[i * step] = i;
    u32 random = 2463534242u;
    for (size_t i = lines - 1; i > 0; i--) {
        random = xorshift(random);
        const size_t j = (size_t)((u64)random * i >> 32);
        const word other = buffer[j * step];
        buffer[j * step] = buffer[i * step];
        buffer[i * step] = other;
    }
    for (size_t i = 0; i < lines; i++)
        buffer[i * step] = (word)&buffer[buffer[i * step] * step];
    position = (void **)buffer;
}

static NOINLINE u64 system_calls(size_t count) {
    for (size_t i = 0; i < count; i++) call(getppid, 0);
    return count;
}

static int to_child[2], from_child[2];

/* A byte to the other process and back: two switches, on one CPU. */
static NOINLINE u64 switches(size_t count) {
    char byte = 0;
    for (size_t i = 0; i < count; i++) {
        must("write", call(write, to_child[1], &byte, 1));
        must("read", call(read, from_child[0], &byte, 1));
    }
    return (u64)count * 2;
}

static long fork_process(void) {
    const int sigchld = 17;
    return must("clone", call(clone, sigchld, 0));
}

static void wait_for(long child) {
    must("wait4", call(wait4, child, 0, 0, 0));
}

static NOINLINE u64 forks(size_t count) {
    for (size_t i = 0; i < count; i++) {
        const long child = fork_process();
        if (child == 0) stop(0);
        wait_for(child);
    }
    return count;
}

/* The first touch of small pages, one after the other. */
static NOINLINE u64 faults(size_t count) {
    const int no_huge_pages = 15;
    for (size_t n = 0; n < count; n++) {
        char *start = map(PAGES * page_size);
        call(madvise, start, PAGES * page_size, no_huge_pages);
        for (size_t i = 0; i < PAGES; i++) *(volatile char *)(start + i * page_size) = 1;
        unmap(start, PAGES * page_size);
    }
    return (u64)count * PAGES;
}

/* ---- measuring -------------------------------------------------------------------------- */

static int late(const char *name, u64 parameter) {
    if (now() - began < LIMIT_NS) return 0;
    put("late ");
    put(name);
    field(parameter);
    end_line();
    return 1;
}

static void measure(const char *name, u64 parameter, kernel work, size_t count, int samples) {
    for (int long_enough = 0; long_enough < 2;) { /* once may be somebody else's time */
        const u64 before = now();
        work(count);
        if (now() - before >= sample_ns) {
            long_enough++;
        } else {
            long_enough = 0;
            count *= 2;
        }
    }
    for (int i = 0; i < samples && !late(name, parameter); i++) {
        const u64 before = now();
        const u64 units = work(count);
        const u64 ns = now() - before;
        put("sample ");
        put(name);
        field(parameter);
        field(units);
        field(ns);
        end_line();
    }
}

static void measure_bandwidth(size_t spare) {
    static const struct {
        const char *name;
        kernel work;
    } all[] = {{"read", reading}, {"write", writing}, {"copy", copying}};
    buffer_bytes = BANDWIDTH;
    if (spare < buffer_bytes) {
        put("small bandwidth");
        field(buffer_bytes);
        end_line();
        return;
    }
    buffer = map(buffer_bytes);
    writing(1); /* otherwise all pages that are read are the one of zeros */
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!late(all[i].name, buffer_bytes)) measure(all[i].name, buffer_bytes, all[i].work, 1, SAMPLES);
    unmap(buffer, buffer_bytes);
}

static void measure_latency(size_t spare) {
    for (size_t bytes = 4096; bytes <= LARGEST; bytes *= 2) {
        if (late("latency", bytes)) continue;
        if (bytes > spare) {
            put("small latency");
            field(bytes);
            end_line();
            continue;
        }
        buffer = map(bytes);
        link_lines(bytes);
        measure("latency", bytes, chasing, 128, ROUNDS * SAMPLES);
        unmap(buffer, bytes);
    }
}

static void measure_switches(void) {
    must("pipe2", call(pipe2, to_child, 0));
    must("pipe2", call(pipe2, from_child, 0));
    const long child = fork_process();
    char byte;
    if (child == 0) {
        call(close, to_child[1]); /* so that the read ends when the parent does */
        while (call(read, to_child[0], &byte, 1) == 1) call(write, from_child[1], &byte, 1);
        stop(0);
    }
    measure("switch", 0, switches, 8, SAMPLES);
    call(close, to_child[1]);
    call(close, to_child[0]);
    call(close, from_child[0]);
    call(close, from_child[1]);
    wait_for(child);
}

/* ---- counters --------------------------------------------------------------------------- */

/* perf_event_open(2); the first version of its structure, PERF_ATTR_SIZE_VER0. */
struct perf_event {
    u32 type, size;
    u64 config, period, sample_type, read_format, flags;
    u32 wakeup, breakpoint;
    u64 config1;
};

static const struct {
    const char *name;
    u64 config; /* of PERF_TYPE_HARDWARE */
} counters[] = {{"cycles", 0}, {"instructions", 1}, {"cache-misses", 3}};

enum { COUNTERS = sizeof counters / sizeof *counters };

static void count_events(void) {
    const u64 enabled_and_running = 3, exclude_kernel_and_hypervisor = 1 << 5 | 1 << 6;
    static struct perf_event event;
    long file[COUNTERS];
    event.size = sizeof event;
    event.read_format = enabled_and_running;
    event.flags = exclude_kernel_and_hypervisor;
    for (int i = 0; i < COUNTERS; i++) {
        event.config = counters[i].config;
        file[i] = call(perf_event_open, &event, 0 /* this process */, -1, -1, 0);
    }
    u64 units = 0;
    const u64 before = now();
    while (now() - before < sample_ns) units += integer(1 << 14);
    const u64 ns = now() - before;
    for (int i = 0; i < COUNTERS; i++) {
        u64 values[3];
        const long got = file[i] < 0 ? file[i] : call(read, file[i], values, sizeof values);
        put("counter ");
        put(counters[i].name);
        if (got == sizeof values) {
            for (int k = 0; k < 3; k++) field(values[k]);
        } else {
            put(" error");
            field((u64)-got);
        }
        end_line();
    }
    put("counted");
    field(units);
    field(ns);
    end_line();
}

/* ---- the whole -------------------------------------------------------------------------- */

/* Stay where we are: on a machine with two kinds of cores, a measure is of one of them. */
static u32 pin(void) {
    static word mask[1024 / (8 * sizeof(word))];
    u32 cpu = 0;
    call(getcpu, &cpu, 0, 0);
    mask[cpu / (8 * sizeof(word))] = 1ul << cpu % (8 * sizeof(word));
    call(sched_setaffinity, 0, sizeof mask, mask);
    return cpu;
}

static void check_clock(void) {
    struct timespec resolution;
    u64 backwards = 0, last = now();
    call(clock_getres, 1 /* CLOCK_MONOTONIC */, &resolution);
    for (int i = 0; i < 1000; i++) {
        const u64 next = now();
        backwards += next < last;
        last = next;
    }
    if (sample_ns < in_ns(resolution) * TICKS) sample_ns = in_ns(resolution) * TICKS;
    put("clock");
    field(in_ns(resolution));
    field(backwards);
    end_line();
}

__attribute__((used)) void begin(const unsigned long *stack) {
    stack += 1 + stack[0] + 1; /* past argc, argv and its end */
    while (*stack++) continue; /* past the environment */
    for (; stack[0]; stack += 2)
        if (stack[0] == 6 /* AT_PAGESZ */) page_size = stack[1];
    put("dozenbench");
    field(pin());
    began = now();
    end_line();
    check_clock();
    const size_t spare = spare_memory();
    static const struct {
        const char *name;
        kernel work;
        size_t count;
    } all[] = {
        {"integer", integer, 256},      {"float", floating, 1024}, {"call", calls, 256},
        {"syscall", system_calls, 64}, {"fault", faults, 1},      {"fork", forks, 1},
    };
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            if (!late(all[i].name, 0)) measure(all[i].name, 0, all[i].work, all[i].count, SAMPLES);
        if (!late("switch", 0)) measure_switches();
        measure_bandwidth(spare);
    }
    measure_latency(spare);
    count_events();
    put("end");
    field(now() - began);
    end_line();
    stop(0);
}
