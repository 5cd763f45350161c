// SPDX-License-Identifier: GPL-2.0
/*
 * How long others wait while something is locked: one kind of request (--probe) every 2 to 50 ms,
 * from another thread, or from another process (cmdline, maps).
 *
 * A request counts from the moment it is due, also if the one before it is late: so the numbers say
 * what a random moment costs, and a single long stall is not one slow request among thousands of
 * fast ones.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "kselftest.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define MSEC		1000000
#define MAX_SAMPLES	262144
/* More than the C library keeps: the stack of each thread is a new mapping. */
#define STACK_SIZE	((size_t)64 << 20)
#define FAULT_PAGES	65536

/* Seen by all processes. */
struct shared {
	atomic_bool ready, go, locked;
	/* When the call has returned. */
	atomic_ullong end;
	size_t nr;
	__u64 ns[MAX_SAMPLES];
};

static struct shared *shared;

struct probe {
	const char *name;
	/* Requested by another process. */
	bool outside;
	/* Another thread of the process waits for the mmap lock to write again and again. */
	bool writer;
	/* How often: much longer than a request takes if nobody is in the way. */
	__u64 interval_ns;
	void (*prepare)(void);
	void (*request)(void);
};

static char *fault_memory;
static size_t next_fault;
static pid_t locker;

static void prepare_fault(void)
{
	fault_memory = map_region(FAULT_PAGES);
	/* The first fault of a mapping is another matter: it may need the mmap lock. */
	fault_memory[0] = 1;
	next_fault = 1;
}

static void request_fault(void)
{
	fault_memory[next_fault++ % FAULT_PAGES * page_size] = 1;
}

static void request_mmap(void)
{
	void *addr = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (addr == MAP_FAILED || munmap(addr, page_size))
		bench_die("mmap and munmap", errno);
}

static void *new_thread(void *arg)
{
	return arg;
}

static void request_thread(void)
{
	pthread_attr_t attr;
	pthread_t thread;
	int error;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	error = pthread_create(&thread, &attr, new_thread, NULL);
	if (error)
		bench_die("pthread_create", error);
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
}

static void read_proc(const char *name)
{
	static char buf[1 << 16];
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", locker, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		bench_die(path, errno);
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	close(fd);
}

static void request_cmdline(void)
{
	read_proc("cmdline");
}

static void request_maps(void)
{
	read_proc("maps");
}

static void prepare_nothing(void)
{
}

static const struct probe probes[] = {
	{ "fault", false, true, 2 * MSEC, prepare_fault, request_fault },
	{ "mmap", false, false, 10 * MSEC, prepare_nothing, request_mmap },
	{ "thread", false, false, 50 * MSEC, prepare_nothing, request_thread },
	{ "cmdline", true, true, 10 * MSEC, prepare_nothing, request_cmdline },
	{ "maps", true, true, 10 * MSEC, prepare_nothing, request_maps },
};

static const struct probe *find_probe(const char *name)
{
	size_t i;

	for (i = 0; name && i < ARRAY_SIZE(probes); i++)
		if (!strcmp(probes[i].name, name))
			return &probes[i];
	fputs("stall: --probe can be fault, mmap, thread, cmdline, maps\n", stderr);
	exit(EXIT_FAILURE);
}

static void sleep_until(__u64 ns)
{
	struct timespec at = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL))
		;
}

/* Requests until the call has returned and all that were due by then are done. */
static void make_requests(const struct probe *p, bool record)
{
	__u64 due, end;

	while (!atomic_load(&shared->go))
		usleep(100);
	due = now_ns();
	do {
		sleep_until(due);
		p->request();
		if (record && shared->nr < MAX_SAMPLES)
			shared->ns[shared->nr++] = now_ns() - due;
		due += p->interval_ns;
		end = atomic_load(&shared->end);
	} while (!end || due < end);
}

static void *request_thread_main(void *arg)
{
	/* Timers that are late by 50 us would be half of what is measured. */
	prctl(PR_SET_TIMERSLACK, 1);
	atomic_store(&shared->ready, true);
	make_requests(arg, true);
	return NULL;
}

static void *writer_thread_main(void *arg)
{
	make_requests(arg, false);
	return NULL;
}

static pid_t start_outside(const struct probe *p)
{
	pid_t child;

	locker = getpid();
	child = fork();
	if (child < 0)
		bench_die("fork", errno);
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	request_thread_main((void *)p);
	_exit(EXIT_SUCCESS);
}

static int compare(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return (x > y) - (x < y);
}

static __u64 quantile(double q)
{
	return shared->ns[(size_t)(q * (shared->nr - 1) + 0.5)];
}

/* Half octaves from 1 us on: bucket i has what is less than 1 us times 2^((i + 1) / 2). */
#define NR_BUCKETS	64

static void report_buckets(void)
{
	static const __u64 root2_scaled = 1414;
	__u64 buckets[NR_BUCKETS] = {};
	__u64 limit;
	size_t i, b = 0, last = 0;

	for (i = 0; i < shared->nr; i++) {
		for (; b < NR_BUCKETS - 1; b++) {
			limit = 1000ULL << (b + 1) / 2;
			if (b % 2 == 0)
				limit = (1000ULL << b / 2) * root2_scaled / 1000;
			if (shared->ns[i] < limit)
				break;
		}
		buckets[b]++;
		last = b;
	}
	result_numbers("buckets", buckets, last + 1);
}

int main(int argc, char **argv)
{
	struct bench b = {};
	const struct probe *p;
	pthread_t requests, writer;
	struct memory m;
	pid_t child = 0;
	__u64 ns;
	int ret;

	bench_init(&b, argc, argv);
	p = find_probe(b.probe);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		bench_die("mmap", errno);
	/* Its own page faults would be measured, too. */
	memset(shared->ns, 0, sizeof(shared->ns));
	p->prepare();
	if (p->outside)
		child = start_outside(p);
	else if (pthread_create(&requests, NULL, request_thread_main, (void *)p))
		bench_die("pthread_create", EAGAIN);
	if (p->writer && pthread_create(&writer, NULL, writer_thread_main,
					(void *)find_probe("mmap")))
		bench_die("pthread_create", EAGAIN);

	memory_map(&b, &m);
	while (!atomic_load(&shared->ready))
		usleep(100);
	if (b.contender->maps)
		munmap(m.addr, m.len);
	atomic_store(&shared->go, true);
	/* The first requests translate code and warm caches. */
	usleep(20000);

	ns = now_ns();
	ret = b.contender->lock(&b, &m);
	ns = now_ns() - ns;
	atomic_store(&shared->end, now_ns());

	if (p->outside)
		waitpid(child, NULL, 0);
	else
		pthread_join(requests, NULL);
	if (p->writer)
		pthread_join(writer, NULL);
	if (ret)
		bench_die(b.contender->name, -ret);
	if (strcmp(b.contender->name, "none"))
		memory_check(&b, &m);
	if (!shared->nr)
		bench_die("no request was made", ENODATA);

	qsort(shared->ns, shared->nr, sizeof(shared->ns[0]), compare);
	result_begin(&b);
	result_number("ns", ns);
	result_number("requests", shared->nr);
	result_number("p50_ns", quantile(0.5));
	result_number("p99_ns", quantile(0.99));
	result_number("max_ns", quantile(1));
	report_buckets();
	result_end();
	return EXIT_SUCCESS;
}
