// SPDX-License-Identifier: GPL-2.0
/*
 * How long it takes to lock something, and with --trace how long the mmap lock is held for it.
 *
 * "tsc" counts cycles, or instructions in a VM whose clock counts these (QEMU's -icount).
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mlock_rs_test.h"
#include "trace.h"

/* How long the mmap lock was held, in one way. */
struct hold {
	__u64 since, ns, longest_ns;
	bool held;
};

static void begin_hold(struct hold *h, __u64 at)
{
	h->since = at;
	h->held = true;
}

static void end_hold(struct hold *h, __u64 at)
{
	__u64 ns = at - h->since;

	if (!h->held)
		return;
	h->held = false;
	h->ns += ns;
	if (ns > h->longest_ns)
		h->longest_ns = ns;
}

static void report_holds(const struct trace *t)
{
	struct hold write = {}, read = {};
	size_t i;

	for (i = 0; i < t->nr; i++) {
		const struct lock_event *e = &t->event[i];

		if (e->what == LOCK_ACQUIRED && e->write) {
			begin_hold(&write, e->ns);
		} else if (e->what == LOCK_ACQUIRED) {
			/* It was downgraded, if it is held for writing. */
			end_hold(&write, e->ns);
			begin_hold(&read, e->ns);
		} else if (e->what == LOCK_RELEASED) {
			end_hold(e->write ? &write : &read, e->ns);
		}
	}
	result_number("write_ns", write.ns);
	result_number("write_longest_ns", write.longest_ns);
	result_number("read_ns", read.ns);
	result_number("read_longest_ns", read.longest_ns);
}

static __u64 tsc(void)
{
#ifdef __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return 0;
#endif
}

/* What a call took. */
struct took {
	__u64 ns, ticks;
};

static int compare_times(const void *a, const void *b)
{
	const struct took *x = a, *y = b;

	return (x->ns > y->ns) - (x->ns < y->ns);
}

static void start_trace(struct trace *trace)
{
	pid_t self = getpid();
	int ret = trace_open(trace, &self, 1);

	if (!ret)
		ret = trace_use_clock(trace, "mono");
	if (ret)
		bench_die("the trace", -ret);
	trace_start(trace);
}

/* With the memory mapped, and left locked. */
static struct took lock_once(const struct bench *b, struct memory *m, struct trace *trace)
{
	struct took took;
	int ret;

	memory_map(b, m);
	if (b->contender->maps)
		munmap(m->addr, m->len);
	if (b->trace)
		start_trace(trace);

	took.ns = now_ns();
	took.ticks = tsc();
	ret = b->contender->lock(b, m);
	took.ticks = tsc() - took.ticks;
	took.ns = now_ns() - took.ns;

	if (ret)
		bench_die(b->contender->name, -ret);
	if (b->trace && trace_stop(trace))
		bench_skip(b, "too many events to trace");
	memory_check(b, m);
	return took;
}

int main(int argc, char **argv)
{
	static struct trace trace;
	struct bench b = {};
	struct took *took;
	struct memory m;
	unsigned int i;

	bench_init(&b, argc, argv);
	took = calloc(b.repeat, sizeof(*took));
	if (!took)
		bench_die("calloc", errno);
	for (i = 0; i < b.repeat; i++) {
		if (i)
			memory_unmap(&m);
		took[i] = lock_once(&b, &m, &trace);
	}
	qsort(took, b.repeat, sizeof(*took), compare_times);

	result_begin(&b);
	result_number("ns", took[b.repeat / 2].ns);
	result_number("tsc", took[b.repeat / 2].ticks);
	if (b.contender->needs) {
		result_number("helpers", said.helpers);
		result_number("gaps", said.gaps);
	}
	if (b.trace) {
		report_holds(&trace);
		trace_close(&trace);
	}
	result_end();
	/* The end of the process is not a part of the measurement; it takes as long again. */
	return EXIT_SUCCESS;
}
