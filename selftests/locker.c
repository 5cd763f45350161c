// SPDX-License-Identifier: GPL-2.0
/*
 * LOCK or mlock(2) in a process of its own, with the mappings of the test.
 */
#define _GNU_SOURCE
#include "locker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mlock_rs_test.h"
#include "thread_state.h"

struct lock_call *lock_call_new(int dev, char *addr, size_t nr_pages)
{
	struct lock_call *call = mmap(NULL, sizeof(*call), PROT_READ | PROT_WRITE,
				      MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (call == MAP_FAILED || nr_pages > LOCK_CALL_PAGES)
		abort();
	call->dev = dev;
	call->addr = addr;
	call->len = nr_pages * page_size;
	return call;
}

pid_t fork_with_test(void)
{
	pid_t parent = getpid(), child = fork();

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return child;
}

static int lock(struct lock_call *call)
{
	if (call->with_mlock)
		return mlock_2(call->addr, call->len);
	call->res = (struct mlock_rs_lock) {
		.addr = (uintptr_t)call->addr,
		.len = call->len,
		.flags = call->flags,
		.nr_workers = call->nr_workers,
	};
	return mlock_rs_parts(call->dev, &call->res, call->left_out);
}

size_t lock_call_bytes(const struct lock_call *call)
{
	return call->len - (call->left_out ? page_size : 0);
}

pid_t lock_call_start(struct lock_call *call)
{
	pid_t child = fork_with_test();

	if (child)
		return child;
	if (call->before)
		call->before(call);
	atomic_store(&call->begun, true);
	call->ret = lock(call);
	atomic_store(&call->returned, true);
	while (atomic_load(&call->stay))
		usleep(1000);
	call->vmlck = vmlck();
	snprintf(call->states, sizeof(call->states), "%s",
		 states(call->addr, call->len / page_size));
	_exit(0);
}

bool wait_marked(pid_t pid, const struct lock_call *call)
{
	__u64 begin = now_ns();

	while (status_number(pid, "VmLck:") * 1024L != (long)lock_call_bytes(call))
		if (atomic_load(&call->returned) || give_up(begin))
			return false;
	return true;
}

bool wait_held_back(pid_t pid, const struct lock_call *call)
{
	if (!wait_marked(pid, call))
		return false;
	return (call->flags & MLOCK_RS_LOCK_YIELD ? wait_asleep(pid) : wait_waits(pid)) &&
	       !atomic_load(&call->returned);
}
