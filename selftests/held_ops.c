// SPDX-License-Identifier: GPL-2.0
/*
 * What other threads do while a call is held back: one operation each, on the page that is to be
 * the victim or elsewhere.
 */
#define _GNU_SOURCE
#include "held_ops.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mlock_rs_test.h"
#include "thread_state.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif

static char *victim(const struct held_call *h)
{
	return h->addr + h->victim * page_size;
}

int op_munmap(struct held_call *h)
{
	return munmap(victim(h), page_size) ? -errno : 0;
}

int op_mmap_fixed(struct held_call *h)
{
	return mmap(victim(h), page_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0;
}

int op_mremap(struct held_call *h)
{
	return mremap(victim(h), page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
		      h->elsewhere) == MAP_FAILED ? -errno : 0;
}

int op_mprotect(struct held_call *h)
{
	return mprotect(victim(h), page_size, PROT_NONE) ? -errno : 0;
}

/* Nowhere near the range. */
int op_mmap_elsewhere(struct held_call *h)
{
	return mmap(h->elsewhere, page_size, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0;
}

static int advise(char *addr, size_t len, int advice)
{
	return madvise(addr, len, advice) ? -errno : 0;
}

int op_dontdump(struct held_call *h)
{
	return advise(victim(h), page_size, MADV_DONTDUMP);
}

int op_collapse(struct held_call *h)
{
	unsigned long long begin = now_ns();
	int ret;

	/* Before it takes the lock, it may find no huge page, or its small one in other hands. */
	do {
		ret = advise(h->huge, HUGE_SIZE, MADV_COLLAPSE);
		if (ret == -ENOMEM)
			write_text("/proc/sys/vm/compact_memory", "1");
	} while ((ret == -ENOMEM || ret == -EAGAIN) && !give_up(begin));
	return ret;
}

int op_dontneed(struct held_call *h)
{
	return advise(victim(h), page_size, MADV_DONTNEED);
}

int op_dontneed_locked(struct held_call *h)
{
	return advise(h->addr + HELD_READY_PAGE * page_size, page_size, MADV_DONTNEED_LOCKED);
}

int op_cold(struct held_call *h)
{
	return advise(victim(h), page_size, MADV_COLD);
}

int op_populate(struct held_call *h)
{
	return advise(victim(h), page_size, MADV_POPULATE_READ);
}

int op_munlock(struct held_call *h)
{
	return munlock(victim(h), page_size) ? -errno : 0;
}

int op_unlock(struct held_call *h)
{
	struct mlock_rs_unlock res;
	int ret = mlock_rs_unlock(h->dev, victim(h), page_size, &res);

	return ret || res.unlocked == page_size ? ret : -EBADMSG;
}

/* What the other call has marked does not count twice. */
int op_lock(struct held_call *h)
{
	const size_t len = (HELD_NR_PAGES - h->victim) * page_size;
	struct mlock_rs_lock res;
	int ret = mlock_rs(h->dev, victim(h), len, &res);

	return ret || (!res.locked && res.populated == len) ? ret : -EBADMSG;
}

int op_mlock(struct held_call *h)
{
	return mlock_2(victim(h), page_size);
}

/* The child inherits no lock, however far the call has come. */
int op_fork(struct held_call *h)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		return -errno;
	if (!child)
		_exit(vmlck() || count(states(h->addr, HELD_NR_PAGES), 'L') ||
		      count(states(h->addr, HELD_NR_PAGES), 'l'));
	if (waitpid(child, &status, 0) != child)
		return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBADMSG;
}

/* The page of the file that was there before. */
static int map_file(struct held_call *h)
{
	return mmap(victim(h), page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, h->file,
		    h->victim * page_size) == MAP_FAILED ? -errno : 0;
}

int op_replace_by_the_same(struct held_call *h)
{
	return map_file(h);
}

int op_replace_by_the_same_and_mlock(struct held_call *h)
{
	return map_file(h) ?: op_mlock(h);
}

/*
 * The same as it was, and locked, but nothing is there: mlock(2) marks what it cannot populate, and
 * what becomes readable, and not writable, is not populated by mprotect(2).
 */
int op_replace_and_leave_empty(struct held_call *h)
{
	if (mmap(victim(h), page_size, PROT_NONE, MAP_PRIVATE | MAP_FIXED, h->file,
		 h->victim * page_size) == MAP_FAILED)
		return -errno;
	if (op_mlock(h) != -ENOMEM)
		return -EBADMSG;
	return op_mprotect_read(h);
}

int op_replace_by_another_offset_and_mlock(struct held_call *h)
{
	if (mmap(victim(h), page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, h->file,
		 0) == MAP_FAILED)
		return -errno;
	return op_mlock(h);
}

int op_replace_and_mlock(struct held_call *h)
{
	return op_mmap_fixed(h) ?: op_mlock(h);
}

/* All that is mapped from now on is locked. The process is not used for anything else. */
int op_replace_with_mcl_future(struct held_call *h)
{
	return mlockall(MCL_FUTURE) ? -errno : op_mmap_fixed(h);
}

int op_munlock_and_mlock(struct held_call *h)
{
	return op_munlock(h) ?: op_mlock(h);
}

int op_mprotect_read(struct held_call *h)
{
	return mprotect(victim(h), page_size, PROT_READ) ? -errno : 0;
}

/* There and back: the mapping is gone in between, and the same again afterwards. */
int op_mremap_there_and_back(struct held_call *h)
{
	if (mremap(victim(h), page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
		   h->elsewhere) == MAP_FAILED)
		return -errno;
	return mremap(h->elsewhere, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
		      victim(h)) == MAP_FAILED ? -errno : 0;
}
