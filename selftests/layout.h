/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The layout of the ABI as it was published, checked at compile time by a 64-bit program and by a
 * 32-bit one: a change here breaks callers that exist.
 */
#ifndef MLOCK_RS_LAYOUT_H
#define MLOCK_RS_LAYOUT_H

#include <assert.h>
#include <linux/mlock_rs.h>
#include <stddef.h>

/* With all offsets and the size of the whole fixed, so are the sizes of the fields. */
#define ASSERT_OFFSET(type, field, offset) \
	static_assert(offsetof(struct type, field) == (offset), "layout")

ASSERT_OFFSET(mlock_rs_range, addr, 0);
ASSERT_OFFSET(mlock_rs_range, len, 8);
static_assert(sizeof(struct mlock_rs_range) == 16, "mlock_rs_range");

ASSERT_OFFSET(mlock_rs_lock, addr, 0);
ASSERT_OFFSET(mlock_rs_lock, len, 8);
ASSERT_OFFSET(mlock_rs_lock, flags, 16);
ASSERT_OFFSET(mlock_rs_lock, __reserved, 20);
ASSERT_OFFSET(mlock_rs_lock, locked, 24);
ASSERT_OFFSET(mlock_rs_lock, populated, 32);
ASSERT_OFFSET(mlock_rs_lock, fail_addr, 40);
ASSERT_OFFSET(mlock_rs_lock, nr_vmas, 48);
ASSERT_OFFSET(mlock_rs_lock, error, 52);
ASSERT_OFFSET(mlock_rs_lock, nr_workers, 56);
ASSERT_OFFSET(mlock_rs_lock, slice_us, 60);
ASSERT_OFFSET(mlock_rs_lock, nr_helpers, 64);
ASSERT_OFFSET(mlock_rs_lock, nr_gaps, 68);
static_assert(sizeof(struct mlock_rs_lock) == 72, "mlock_rs_lock");
static_assert(MLOCK_RS_LOCK_SIZE_VER0 == 56, "MLOCK_RS_LOCK_SIZE_VER0");
static_assert(MLOCK_RS_LOCK_SIZE_VER1 == 72, "MLOCK_RS_LOCK_SIZE_VER1");

ASSERT_OFFSET(mlock_rs_unlock, addr, 0);
ASSERT_OFFSET(mlock_rs_unlock, len, 8);
ASSERT_OFFSET(mlock_rs_unlock, flags, 16);
ASSERT_OFFSET(mlock_rs_unlock, __reserved, 20);
ASSERT_OFFSET(mlock_rs_unlock, unlocked, 24);
ASSERT_OFFSET(mlock_rs_unlock, fail_addr, 32);
ASSERT_OFFSET(mlock_rs_unlock, nr_vmas, 40);
ASSERT_OFFSET(mlock_rs_unlock, error, 44);
static_assert(sizeof(struct mlock_rs_unlock) == 48, "mlock_rs_unlock");
static_assert(MLOCK_RS_UNLOCK_SIZE_VER0 == 48, "MLOCK_RS_UNLOCK_SIZE_VER0");

ASSERT_OFFSET(mlock_rs_lockv, ranges, 0);
ASSERT_OFFSET(mlock_rs_lockv, nr_ranges, 8);
ASSERT_OFFSET(mlock_rs_lockv, flags, 12);
ASSERT_OFFSET(mlock_rs_lockv, locked, 16);
ASSERT_OFFSET(mlock_rs_lockv, populated, 24);
ASSERT_OFFSET(mlock_rs_lockv, fail_addr, 32);
ASSERT_OFFSET(mlock_rs_lockv, nr_vmas, 40);
ASSERT_OFFSET(mlock_rs_lockv, error, 44);
ASSERT_OFFSET(mlock_rs_lockv, nr_workers, 48);
ASSERT_OFFSET(mlock_rs_lockv, slice_us, 52);
ASSERT_OFFSET(mlock_rs_lockv, nr_helpers, 56);
ASSERT_OFFSET(mlock_rs_lockv, nr_gaps, 60);
static_assert(sizeof(struct mlock_rs_lockv) == 64, "mlock_rs_lockv");
static_assert(MLOCK_RS_LOCKV_SIZE_VER0 == 48, "MLOCK_RS_LOCKV_SIZE_VER0");
static_assert(MLOCK_RS_LOCKV_SIZE_VER1 == 64, "MLOCK_RS_LOCKV_SIZE_VER1");

ASSERT_OFFSET(mlock_rs_unlockv, ranges, 0);
ASSERT_OFFSET(mlock_rs_unlockv, nr_ranges, 8);
ASSERT_OFFSET(mlock_rs_unlockv, flags, 12);
ASSERT_OFFSET(mlock_rs_unlockv, unlocked, 16);
ASSERT_OFFSET(mlock_rs_unlockv, fail_addr, 24);
ASSERT_OFFSET(mlock_rs_unlockv, nr_vmas, 32);
ASSERT_OFFSET(mlock_rs_unlockv, error, 36);
static_assert(sizeof(struct mlock_rs_unlockv) == 40, "mlock_rs_unlockv");
static_assert(MLOCK_RS_UNLOCKV_SIZE_VER0 == 40, "MLOCK_RS_UNLOCKV_SIZE_VER0");

ASSERT_OFFSET(mlock_rs_query, addr, 0);
ASSERT_OFFSET(mlock_rs_query, len, 8);
ASSERT_OFFSET(mlock_rs_query, flags, 16);
ASSERT_OFFSET(mlock_rs_query, __reserved, 20);
ASSERT_OFFSET(mlock_rs_query, mapped, 24);
ASSERT_OFFSET(mlock_rs_query, locked, 32);
ASSERT_OFFSET(mlock_rs_query, onfault, 40);
ASSERT_OFFSET(mlock_rs_query, resident, 48);
ASSERT_OFFSET(mlock_rs_query, nr_vmas, 56);
ASSERT_OFFSET(mlock_rs_query, state, 60);
ASSERT_OFFSET(mlock_rs_query, error, 64);
ASSERT_OFFSET(mlock_rs_query, __reserved_out, 68);
static_assert(sizeof(struct mlock_rs_query) == 72, "mlock_rs_query");
static_assert(MLOCK_RS_QUERY_SIZE_VER0 == 72, "MLOCK_RS_QUERY_SIZE_VER0");

ASSERT_OFFSET(mlock_rs_progress, flags, 0);
ASSERT_OFFSET(mlock_rs_progress, __reserved, 4);
ASSERT_OFFSET(mlock_rs_progress, wanted, 8);
ASSERT_OFFSET(mlock_rs_progress, populated, 16);
ASSERT_OFFSET(mlock_rs_progress, nr_calls, 24);
ASSERT_OFFSET(mlock_rs_progress, __reserved_out, 28);
static_assert(sizeof(struct mlock_rs_progress) == 32, "mlock_rs_progress");
static_assert(MLOCK_RS_PROGRESS_SIZE_VER0 == 32, "MLOCK_RS_PROGRESS_SIZE_VER0");

ASSERT_OFFSET(mlock_rs_abi, features, 0);
ASSERT_OFFSET(mlock_rs_abi, version, 8);
ASSERT_OFFSET(mlock_rs_abi, max_ranges, 12);
static_assert(sizeof(struct mlock_rs_abi) == 16, "mlock_rs_abi");
static_assert(MLOCK_RS_ABI_SIZE_VER0 == 16, "MLOCK_RS_ABI_SIZE_VER0");

/* Direction, size, letter, number: what a caller of either word size passes. */
static_assert(MLOCK_RS_LOCK == 0xc048bb01, "MLOCK_RS_LOCK");
static_assert(MLOCK_RS_UNLOCK == 0xc030bb02, "MLOCK_RS_UNLOCK");
static_assert(MLOCK_RS_LOCKV == 0xc040bb03, "MLOCK_RS_LOCKV");
static_assert(MLOCK_RS_UNLOCKV == 0xc028bb04, "MLOCK_RS_UNLOCKV");
static_assert(MLOCK_RS_QUERY == 0xc048bb05, "MLOCK_RS_QUERY");
static_assert(MLOCK_RS_ABI == 0xc010bb06, "MLOCK_RS_ABI");
static_assert(MLOCK_RS_PROGRESS == 0xc020bb07, "MLOCK_RS_PROGRESS");

static_assert(MLOCK_RS_LOCK_ONFAULT == 1, "MLOCK_RS_LOCK_ONFAULT");
static_assert(MLOCK_RS_LOCK_YIELD == 2, "MLOCK_RS_LOCK_YIELD");
static_assert(MLOCK_RS_LOCK_INTERRUPTIBLE == 4, "MLOCK_RS_LOCK_INTERRUPTIBLE");
static_assert(MLOCK_RS_MAX_WORKERS == 64, "MLOCK_RS_MAX_WORKERS");
static_assert(MLOCK_RS_MAX_SLICE_US == 1000000, "MLOCK_RS_MAX_SLICE_US");
static_assert(MLOCK_RS_QUERY_LOCKED_RESIDENT == 1, "MLOCK_RS_QUERY_LOCKED_RESIDENT");
static_assert(MLOCK_RS_MAX_RANGES == 1024, "MLOCK_RS_MAX_RANGES");

#endif /* MLOCK_RS_LAYOUT_H */
