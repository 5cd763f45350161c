// SPDX-License-Identifier: GPL-2.0
/*
 * A history: calls of several threads on the same few pages, each with what it answered and with
 * when it began and ended, in the order that all threads agree on.
 */
#define _GNU_SOURCE
#include "history.h"
#include "kselftest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "mlock_rs_test.h"

/* An answer that says two things at once is allowed by no model. */
#define CONTRADICTION	-1

void call_on_model(const struct call *call, struct model *m, struct answer *answer)
{
	const struct mlock_rs_range *range = call->range;

	memset(answer, 0, sizeof(*answer));
	switch (call->kind) {
	case CALL_LOCK:
	case CALL_LOCKV:
		return model_edit(m, LOCK_RESIDENT, range, call->nr_ranges, answer);
	case CALL_LOCK_YIELD:
	case CALL_LOCKV_YIELD:
		return model_yield_begin(m, range, call->nr_ranges, answer);
	case CALL_LOCK_ONFAULT:
		return model_edit(m, LOCK_ONFAULT, range, call->nr_ranges, answer);
	case CALL_UNLOCK:
	case CALL_UNLOCKV:
		return model_edit(m, UNLOCK, range, call->nr_ranges, answer);
	case CALL_QUERY:
		return model_query(m, range->addr, range->len, answer);
	case CALL_MUNMAP:
		answer->error = -model_munmap(m, range->addr, range->len);
		return;
	case CALL_MMAP:
		answer->error = -model_mmap(m, range->addr, range->len);
		return;
	case CALL_MPROTECT:
		answer->error = -model_mprotect(m, range->addr, range->len, call->prot);
		return;
	}
}

/* Alone now and then, and not alone now and then, if there is work for two. */
static __u32 nr_workers(const struct call *call)
{
	return 1 + call->range->addr / page_size % 2;
}

static void lock_on_kernel(struct call *call, int dev)
{
	struct mlock_rs_lock res = {
		.addr = call->range->addr,
		.len = call->range->len,
	};
	int ret;

	if (call->kind == CALL_LOCK_ONFAULT)
		res.flags = MLOCK_RS_LOCK_ONFAULT;
	/* Gives the lock up as soon as somebody wants it. */
	if (call_yields(call)) {
		res.flags = MLOCK_RS_LOCK_YIELD;
		res.slice_us = 1;
	}
	res.nr_workers = nr_workers(call);
	ret = mlock_rs_call(dev, &res);

	call->answer = (struct answer) {
		.error = -ret == (int)res.error ? -ret : CONTRADICTION,
		.changed = res.locked,
		.populated = res.populated,
		.fail_addr = res.fail_addr,
		.min_vmas = res.nr_vmas,
		.max_vmas = res.nr_vmas,
	};
	call->nr_helpers = res.nr_helpers;
}

static void unlock_on_kernel(struct call *call, int dev)
{
	struct mlock_rs_unlock res;
	int ret = mlock_rs_unlock(dev, (void *)(uintptr_t)call->range->addr, call->range->len,
				  &res);

	call->answer = (struct answer) {
		.error = -ret == (int)res.error ? -ret : CONTRADICTION,
		.changed = res.unlocked,
		.fail_addr = res.fail_addr,
		.min_vmas = res.nr_vmas,
		.max_vmas = res.nr_vmas,
	};
}

static void lockv_on_kernel(struct call *call, int dev)
{
	struct mlock_rs_lockv res = {
		.ranges = (uintptr_t)call->range,
		.nr_ranges = call->nr_ranges,
		.nr_workers = nr_workers(call),
	};
	int ret;

	if (call_yields(call)) {
		res.flags = MLOCK_RS_LOCK_YIELD;
		res.slice_us = 1;
	}
	ret = mlock_rs_lockv_call(dev, &res);
	call->nr_helpers = res.nr_helpers;
	call->answer = (struct answer) {
		.error = -ret == (int)res.error ? -ret : CONTRADICTION,
		.changed = res.locked,
		.populated = res.populated,
		.fail_addr = res.fail_addr,
		.min_vmas = res.nr_vmas,
		.max_vmas = res.nr_vmas,
	};
}

static void unlockv_on_kernel(struct call *call, int dev)
{
	struct mlock_rs_unlockv res;
	int ret = mlock_rs_unlockv(dev, call->range, call->nr_ranges, &res);

	call->answer = (struct answer) {
		.error = -ret == (int)res.error ? -ret : CONTRADICTION,
		.changed = res.unlocked,
		.fail_addr = res.fail_addr,
		.min_vmas = res.nr_vmas,
		.max_vmas = res.nr_vmas,
	};
}

static void query_on_kernel(struct call *call, int dev)
{
	struct mlock_rs_query res;
	int ret = mlock_rs_query(dev, (void *)(uintptr_t)call->range->addr, call->range->len, &res);

	call->answer = (struct answer) {
		.error = -ret == (int)res.error ? -ret : CONTRADICTION,
		.mapped = res.mapped,
		.locked = res.locked,
		.onfault = res.onfault,
		.resident = res.resident,
		.max_resident = res.resident,
		.state = res.state,
		.min_vmas = res.nr_vmas,
		.max_vmas = res.nr_vmas,
	};
}

static int map_fixed(void *addr, size_t len)
{
	return mmap(addr, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		    0) == MAP_FAILED ? errno : 0;
}

void call_on_kernel(struct call *call, int dev)
{
	void *addr = (void *)(uintptr_t)call->range->addr;
	size_t len = call->range->len;

	memset(&call->answer, 0, sizeof(call->answer));
	switch (call->kind) {
	case CALL_LOCK:
	case CALL_LOCK_YIELD:
	case CALL_LOCK_ONFAULT:
		return lock_on_kernel(call, dev);
	case CALL_UNLOCK:
		return unlock_on_kernel(call, dev);
	case CALL_LOCKV:
	case CALL_LOCKV_YIELD:
		return lockv_on_kernel(call, dev);
	case CALL_UNLOCKV:
		return unlockv_on_kernel(call, dev);
	case CALL_QUERY:
		return query_on_kernel(call, dev);
	case CALL_MUNMAP:
		call->answer.error = munmap(addr, len) ? errno : 0;
		return;
	case CALL_MMAP:
		call->answer.error = map_fixed(addr, len);
		return;
	case CALL_MPROTECT:
		call->answer.error = mprotect(addr, len, call->prot) ? errno : 0;
		return;
	}
}

bool call_is_vector(const struct call *call)
{
	return call->kind == CALL_LOCKV || call->kind == CALL_LOCKV_YIELD ||
	       call->kind == CALL_UNLOCKV;
}

bool call_yields(const struct call *call)
{
	return call->kind == CALL_LOCK_YIELD || call->kind == CALL_LOCKV_YIELD;
}

bool call_only_looks(const struct call *call)
{
	return call->kind == CALL_QUERY;
}

static bool have_a_page_in_common(const struct call *a, const struct call *b)
{
	unsigned int i, j;

	for (i = 0; i < a->nr_ranges; i++) {
		const struct mlock_rs_range *ra = &a->range[i];

		for (j = 0; j < b->nr_ranges; j++) {
			const struct mlock_rs_range *rb = &b->range[j];

			if (ra->addr < rb->addr + rb->len && rb->addr < ra->addr + ra->len)
				return true;
		}
	}
	return false;
}

bool history_overlaps(const struct history *h)
{
	size_t i, j;

	for (i = 0; i < h->nr_calls; i++) {
		const struct call *a = &h->call[i];

		for (j = 0; j < i; j++) {
			const struct call *b = &h->call[j];

			if (a->begin < b->end && b->begin < a->end &&
			    !(call_only_looks(a) && call_only_looks(b)) &&
			    have_a_page_in_common(a, b))
				return true;
		}
	}
	return false;
}

static const char *const names[] = {
	[CALL_LOCK] = "LOCK",
	[CALL_LOCK_YIELD] = "LOCK YIELD",
	[CALL_LOCK_ONFAULT] = "LOCK ONFAULT",
	[CALL_UNLOCK] = "UNLOCK",
	[CALL_LOCKV] = "LOCKV",
	[CALL_LOCKV_YIELD] = "LOCKV YIELD",
	[CALL_UNLOCKV] = "UNLOCKV",
	[CALL_QUERY] = "QUERY",
	[CALL_MUNMAP] = "munmap",
	[CALL_MMAP] = "mmap",
	[CALL_MPROTECT] = "mprotect",
};

static const char *prot_name(int prot)
{
	if (prot == PROT_NONE)
		return " none";
	return prot & PROT_WRITE ? " read+write" : " read";
}

/* "LOCKV 0-1 3", with the numbers of the first and the last page. */
static void describe_call(const struct history *h, const struct call *call, char *text, size_t size)
{
	size_t at = snprintf(text, size, "%s", names[call->kind]);
	unsigned int i;

	for (i = 0; i < call->nr_ranges && at < size; i++) {
		__u64 first = (call->range[i].addr - h->start) / page_size;
		__u64 last = first + call->range[i].len / page_size - 1;

		if (first == last)
			at += snprintf(text + at, size - at, " %llu", first);
		else
			at += snprintf(text + at, size - at, " %llu-%llu", first, last);
	}
	if (call->kind == CALL_MPROTECT && at < size)
		snprintf(text + at, size - at, "%s", prot_name(call->prot));
}

/* All sizes in pages. */
static void describe_answer(const struct history *h, const struct call *call, char *text,
			    size_t size)
{
	const struct answer *a = &call->answer;
	char failed[64] = "";

	if (a->error == CONTRADICTION)
		snprintf(failed, sizeof(failed), "two different errors; ");
	else if (a->error && a->fail_addr)
		snprintf(failed, sizeof(failed), "%s at page %lld; ", strerror(a->error),
			 (long long)(a->fail_addr - h->start) / (long long)page_size);
	else if (a->error)
		snprintf(failed, sizeof(failed), "%s; ", strerror(a->error));

	switch (call->kind) {
	case CALL_LOCK:
	case CALL_LOCKV:
	case CALL_LOCKV_YIELD:
	case CALL_LOCK_YIELD:
	case CALL_LOCK_ONFAULT:
		snprintf(text, size, "%s%llu newly locked, %llu populated, %u VMAs", failed,
			 a->changed / page_size, a->populated / page_size, a->min_vmas);
		break;
	case CALL_UNLOCK:
	case CALL_UNLOCKV:
		snprintf(text, size, "%s%llu unlocked, %u VMAs", failed, a->changed / page_size,
			 a->min_vmas);
		break;
	case CALL_QUERY:
		snprintf(text, size, "%s%llu mapped, %llu locked, %llu on fault, %llu resident%s",
			 failed, a->mapped / page_size, a->locked / page_size,
			 a->onfault / page_size, a->resident / page_size,
			 a->state ? ", all" : "");
		break;
	default:
		snprintf(text, size, "%s", *failed ? failed : "done");
	}
}

void history_print(const struct history *h)
{
	__u64 after = 0;
	size_t i;

	ksft_print_msg("%6s %6s %6s  %-24s %s\n", "thread", "begin", "end", "call on pages",
		       "answer in pages");
	for (;;) {
		const struct call *next = NULL;
		char call[96], answer[128];

		for (i = 0; i < h->nr_calls; i++)
			if (h->call[i].begin > after && (!next || h->call[i].begin < next->begin))
				next = &h->call[i];
		if (!next)
			return;
		describe_call(h, next, call, sizeof(call));
		describe_answer(h, next, answer, sizeof(answer));
		ksft_print_msg("%6u %6llu %6llu  %-24s %s\n", next->thread, next->begin, next->end,
			       call, answer);
		after = next->begin;
	}
}
