// SPDX-License-Identifier: GPL-2.0
/*
 * How long it takes from SIGKILL to the death of a process that is locking something.
 *
 * --probe call: its memory lives on, in this process, so that this is the end of the call alone.
 * --probe death: its memory is its own and has to be freed, too.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define STACK_SIZE	(256 << 10)

struct victim {
	const struct bench *b;
	struct memory m;
	atomic_bool begun, returned;
};

static int victim_main(void *arg)
{
	struct victim *v = arg;

	atomic_store(&v->begun, true);
	v->b->contender->lock(v->b, &v->m);
	atomic_store(&v->returned, true);
	for (;;)
		pause();
	return 0;
}

int main(int argc, char **argv)
{
	struct bench b = {};
	struct victim *v;
	bool own_memory;
	char *stack;
	pid_t child;
	int status;
	__u64 ns;

	bench_init(&b, argc, argv);
	if (!b.probe || (strcmp(b.probe, "call") && strcmp(b.probe, "death"))) {
		fputs("kill: --probe can be call or death\n", stderr);
		return EXIT_FAILURE;
	}
	own_memory = !strcmp(b.probe, "death");
	v = mmap(NULL, sizeof(*v), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (v == MAP_FAILED || stack == MAP_FAILED)
		bench_die("mmap", errno);
	v->b = &b;
	memory_map(&b, &v->m);

	child = clone(victim_main, stack + STACK_SIZE, (own_memory ? 0 : CLONE_VM) | SIGCHLD, v);
	if (child < 0)
		bench_die("clone", errno);
	while (!atomic_load(&v->begun))
		usleep(100);
	usleep(b.delay_us);
	if (atomic_load(&v->returned)) {
		kill(child, SIGKILL);
		bench_skip(&b, "it had returned before");
	}
	ns = now_ns();
	kill(child, SIGKILL);
	if (waitpid(child, &status, 0) != child || !WIFSIGNALED(status))
		bench_die("waitpid", ECHILD);
	ns = now_ns() - ns;
	if (atomic_load(&v->returned))
		bench_skip(&b, "it returned of itself");

	result_begin(&b);
	result_number("ns", ns);
	result_end();
	return EXIT_SUCCESS;
}
