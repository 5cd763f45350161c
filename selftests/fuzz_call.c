// SPDX-License-Identifier: GPL-2.0
/*
 * An ioctl of which everything may be wrong: its number, the size that it claims, where its
 * argument lies, each field and each range; and what the ABI says must come of it.
 *
 * What must come of it is exact: the errno, every byte of the result, and that no other byte around
 * has changed. Only where two things are wrong at once, and the ABI does not say which of them is
 * seen first, there is a choice of two errnos.
 */
#define _GNU_SOURCE
#include "fuzz_call.h"
#include "kselftest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mlock_rs_test.h"

/* Far below where the kernel looks for room, far above a static program. */
#define VIEW_ADDR	0x080000000000ULL
#define ARRAY_ADDR	0x0c0000000000ULL
#define ARENA_ADDR	0x100000000000ULL
/* On either side of the arena nothing is mapped for as long as this. */
#define QUIET_BYTES	0x40000000ULL

#define CANARY_BYTES	64
#define CANARY		0xa5
#define MAX_SIZE	((1UL << _IOC_SIZEBITS) - 1)
#define MISSING		SIZE_MAX

#define LOCK_FLAGS \
	(MLOCK_RS_LOCK_ONFAULT | MLOCK_RS_LOCK_YIELD | MLOCK_RS_LOCK_INTERRUPTIBLE)

/* clang-format off */
const struct fuzz_command fuzz_commands[NR_FUZZ_COMMANDS] = {
	{ "LOCK", MLOCK_RS_LOCK, sizeof(struct mlock_rs_lock), MLOCK_RS_LOCK_SIZE_VER0,
	  offsetof(struct mlock_rs_lock, locked), offsetof(struct mlock_rs_lock, nr_vmas),
	  LOCK_FLAGS, false, { 0, E2BIG, EFAULT, EINVAL, ENOMEM, EPERM } },
	{ "UNLOCK", MLOCK_RS_UNLOCK, sizeof(struct mlock_rs_unlock), MLOCK_RS_UNLOCK_SIZE_VER0,
	  offsetof(struct mlock_rs_unlock, unlocked), offsetof(struct mlock_rs_unlock, nr_vmas),
	  0, false, { 0, E2BIG, EFAULT, EINVAL, ENOMEM } },
	{ "LOCKV", MLOCK_RS_LOCKV, sizeof(struct mlock_rs_lockv), MLOCK_RS_LOCKV_SIZE_VER0,
	  offsetof(struct mlock_rs_lockv, locked), offsetof(struct mlock_rs_lockv, nr_vmas),
	  LOCK_FLAGS, true, { 0, E2BIG, EFAULT, EINVAL, ENOMEM, EPERM } },
	{ "UNLOCKV", MLOCK_RS_UNLOCKV, sizeof(struct mlock_rs_unlockv), MLOCK_RS_UNLOCKV_SIZE_VER0,
	  offsetof(struct mlock_rs_unlockv, unlocked), offsetof(struct mlock_rs_unlockv, nr_vmas),
	  0, true, { 0, E2BIG, EFAULT, EINVAL, ENOMEM } },
	{ "QUERY", MLOCK_RS_QUERY, sizeof(struct mlock_rs_query), MLOCK_RS_QUERY_SIZE_VER0,
	  offsetof(struct mlock_rs_query, mapped), offsetof(struct mlock_rs_query, nr_vmas),
	  0, false, { 0, E2BIG, EFAULT, EINVAL } },
	{ "ABI", MLOCK_RS_ABI, sizeof(struct mlock_rs_abi), MLOCK_RS_ABI_SIZE_VER0, 0, MISSING,
	  0, false, { 0, E2BIG, EFAULT, EINVAL } },
	{ "PROGRESS", MLOCK_RS_PROGRESS, sizeof(struct mlock_rs_progress),
	  MLOCK_RS_PROGRESS_SIZE_VER0, offsetof(struct mlock_rs_progress, wanted), MISSING,
	  0, false, { 0, E2BIG, EFAULT, EINVAL } },
};

/* clang-format on */

/* What the view has to be like after the call. */
static unsigned char want[1 << 15];

static __u64 any_number(struct fuzz_memory *f)
{
	return f->choices ? choices_next(f->choices, &f->random) : random_number(&f->random);
}

__u64 fuzz_below(struct fuzz_memory *f, __u64 n)
{
	return any_number(f) % n;
}

static bool one_of(struct fuzz_memory *f, __u64 n)
{
	return !fuzz_below(f, n);
}

static size_t min_size(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void *map_at(__u64 addr, size_t nr_pages, int prot, int flags, int fd)
{
	return mmap((void *)(uintptr_t)addr, nr_pages * page_size, prot, flags | MAP_FIXED, fd, 0);
}

static size_t view_bytes(void)
{
	return VIEW_PAGES * page_size;
}

static size_t writable_bytes(void)
{
	return VIEW_WRITABLE_PAGES * page_size;
}

int fuzz_memory_map_arena(struct fuzz_memory *f)
{
	model_mmap(&f->arena, f->arena.start, ARENA_PAGES * page_size);
	return map_at(f->arena.start, ARENA_PAGES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1) == MAP_FAILED ? -errno : 0;
}

int fuzz_memory_map_view(struct fuzz_memory *f)
{
	/* An old length of 0 makes a second mapping of the same shared memory. */
	if (mremap(f->alias, 0, view_bytes(), MREMAP_MAYMOVE | MREMAP_FIXED,
		   (void *)VIEW_ADDR) == MAP_FAILED)
		return -errno;
	return mprotect((void *)(VIEW_ADDR + writable_bytes()), page_size, PROT_READ) ? -errno : 0;
}

int fuzz_memory_map(struct fuzz_memory *f)
{
	f->arena = (struct model) {
		.start = ARENA_ADDR,
		.nr_pages = ARENA_PAGES,
		.limit_pages = NO_LIMIT,
	};
	f->view = (void *)VIEW_ADDR;
	f->alias = mmap(NULL, view_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	f->array = map_at(ARRAY_ADDR, ARRAY_PAGES, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (f->alias == MAP_FAILED || f->array == MAP_FAILED)
		return -errno;
	if (view_bytes() > sizeof(want))
		return -EINVAL;
	return fuzz_memory_map_view(f) ?: fuzz_memory_map_arena(f);
}

/* Addresses and lengths: mostly near an edge of a page of the arena. */

static __u64 random_addr(struct fuzz_memory *f)
{
	const __u64 strange[] = {
		0, 1, page_size - 1,
		/* The end of the arena, of user space, of the addresses that exist, of all. */
		f->arena.start - 1, f->arena.start + ARENA_PAGES * page_size,
		(1ULL << 47) - page_size, 1ULL << 47, 1ULL << 63, -(__u64)page_size, -1ULL,
		/* With a tag. Nobody has switched tags on, so there is nothing. */
		f->arena.start | 0x3fULL << 57, f->arena.start | 1ULL << 63,
	};
	__u64 edge = f->arena.start + fuzz_below(f, ARENA_PAGES) * page_size;

	switch (fuzz_below(f, 16)) {
	case 0:
		return strange[fuzz_below(f, ARRAY_SIZE(strange))];
	case 1:
		return edge - 1;
	case 2:
		return edge + 1;
	case 3:
		return edge + fuzz_below(f, page_size);
	default:
		return edge;
	}
}

static __u64 random_len(struct fuzz_memory *f, __u64 addr)
{
	const __u64 strange[] = {
		1ULL << 47, 1ULL << 63, -1ULL, -(__u64)page_size,
		/* Up to the end of all addresses, and around it. */
		-addr, -addr - 1, -addr - page_size, -addr + 1, any_number(f),
	};
	__u64 pages = fuzz_below(f, 6) * page_size;

	switch (fuzz_below(f, 32)) {
	case 0:
		return strange[fuzz_below(f, ARRAY_SIZE(strange))];
	case 1:
		return ARENA_PAGES * page_size;
	case 2:
	case 3:
		return pages + 1;
	case 4:
	case 5:
		return pages - 1;
	case 6:
		return 0;
	default:
		return pages;
	}
}

static struct mlock_rs_range random_range(struct fuzz_memory *f)
{
	__u64 addr = random_addr(f);

	return (struct mlock_rs_range) { addr, random_len(f, addr) };
}

static __u32 random_flags(struct fuzz_memory *f, __u32 known)
{
	switch (fuzz_below(f, 16)) {
	case 0:
		return 1U << fuzz_below(f, 32);
	case 1:
		return known | 1U << fuzz_below(f, 32);
	case 2:
		return any_number(f);
	case 3:
	case 4:
	case 5:
	case 6:
		return known & any_number(f);
	default:
		return 0;
	}
}

static __u32 random_nr_ranges(struct fuzz_memory *f)
{
	/* The long ones are slow, too. */
	switch (fuzz_below(f, 256)) {
	case 0:
		return MLOCK_RS_MAX_RANGES - fuzz_below(f, 2);
	case 1:
		return MLOCK_RS_MAX_RANGES + 1;
	case 2:
		return any_number(f);
	default:
		return fuzz_below(f, 6);
	}
}

static void *address_of_nothing(struct fuzz_memory *f)
{
	const __u64 nothing[] = {
		0, 8, f->arena.start + ARENA_PAGES * page_size, VIEW_ADDR - 4096,
		(1ULL << 47) - page_size, (1ULL << 47) - 1, 1ULL << 47, 1ULL << 63,
		0xffffffff81000000ULL, -(__u64)page_size, -8ULL, -1ULL,
	};

	return (void *)(uintptr_t)nothing[fuzz_below(f, ARRAY_SIZE(nothing))];
}

/* An array that ends where its memory does, so that one element too many cannot be read. */
static void fill_ranges(struct fuzz_memory *f, struct fuzz_call *c)
{
	struct mlock_rs_lockv *v = &c->value.lockv;
	struct mlock_rs_range *end = (void *)(f->array + ARRAY_PAGES * page_size);
	size_t i, readable = min_size(v->nr_ranges, MLOCK_RS_MAX_RANGES);

	if (one_of(f, 32)) {
		v->ranges = (uintptr_t)address_of_nothing(f);
		c->readable_ranges = 0;
		return;
	}
	if (one_of(f, 16) && readable)
		readable = fuzz_below(f, readable);
	for (i = 1; i <= readable; i++)
		end[-i] = random_range(f);
	v->ranges = (uintptr_t)(end - readable);
	c->readable_ranges = readable;
	/* Half of the element that is missing is no element. */
	if (readable < v->nr_ranges && one_of(f, 2)) {
		memmove((char *)(end - readable) - 8, end - readable, readable * sizeof(*end));
		v->ranges -= 8;
	}
}

/* Threads that help are dear: few, now and then. */
static __u32 random_workers(struct fuzz_memory *f)
{
	switch (fuzz_below(f, 256)) {
	case 0:
		return MLOCK_RS_MAX_WORKERS + fuzz_below(f, 2);
	case 1:
		return any_number(f);
	case 2 ... 9:
		return 2 + fuzz_below(f, 2);
	default:
		return fuzz_below(f, 2);
	}
}

static __u32 random_slice(struct fuzz_memory *f, __u32 flags)
{
	if (one_of(f, 32))
		return any_number(f);
	if (!(flags & MLOCK_RS_LOCK_YIELD))
		return 0;
	return one_of(f, 16) ? MLOCK_RS_MAX_SLICE_US + fuzz_below(f, 2) : fuzz_below(f, 2000);
}

void fuzz_fill_value(struct fuzz_memory *f, struct fuzz_call *c)
{
	struct mlock_rs_range range;
	const struct fuzz_command *command = c->command;

	/* A result has to overwrite this. */
	memset(&c->value, 0xff, sizeof(c->value));
	c->readable_ranges = 0;
	if (!command || command->cmd == MLOCK_RS_ABI)
		return;
	if (command->cmd == MLOCK_RS_PROGRESS) {
		c->value.progress.flags = random_flags(f, command->known_flags);
		c->value.progress.__reserved = one_of(f, 24) ? 1U << fuzz_below(f, 32) : 0;
		return;
	}
	if (command->vector) {
		/* LOCKV and UNLOCKV begin in the same way. */
		c->value.lockv.nr_ranges = random_nr_ranges(f);
		c->value.lockv.flags = random_flags(f, command->known_flags);
		fill_ranges(f, c);
		if (command->cmd == MLOCK_RS_LOCKV) {
			c->value.lockv.nr_workers = random_workers(f);
			c->value.lockv.slice_us = random_slice(f, c->value.lockv.flags);
		}
		return;
	}
	/* And so do LOCK, UNLOCK and QUERY. */
	range = random_range(f);
	c->value.lock.addr = range.addr;
	c->value.lock.len = range.len;
	c->value.lock.flags = random_flags(f, command->known_flags);
	c->value.lock.__reserved = one_of(f, 24) ? 1U << fuzz_below(f, 32) : 0;
	if (command->cmd == MLOCK_RS_LOCK) {
		c->value.lock.nr_workers = random_workers(f);
		c->value.lock.slice_us = random_slice(f, c->value.lock.flags);
	}
}

static void choose_nothing(struct fuzz_memory *f, struct fuzz_call *c)
{
	const unsigned int rw = _IOC_READ | _IOC_WRITE;
	const struct fuzz_command *near = &fuzz_commands[fuzz_below(f, NR_FUZZ_COMMANDS)];
	unsigned int nr;

	c->command = NULL;
	c->size = one_of(f, 2) ? near->size : fuzz_below(f, 128);
	switch (fuzz_below(f, 4)) {
	case 0:
		/* The direction is part of the number. */
		c->cmd = _IOC(fuzz_below(f, 3), MLOCK_RS_IOC_MAGIC, _IOC_NR(near->cmd), c->size);
		break;
	case 1:
		/* One bit of the letter. */
		c->cmd = _IOC(rw, MLOCK_RS_IOC_MAGIC ^ 1 << fuzz_below(f, 8), _IOC_NR(near->cmd),
			      c->size);
		break;
	case 2:
		c->cmd = _IOC(rw, MLOCK_RS_IOC_MAGIC, 0, c->size);
		break;
	default:
		nr = NR_FUZZ_COMMANDS + 1 + fuzz_below(f, 255 - NR_FUZZ_COMMANDS);
		c->cmd = _IOC(rw, MLOCK_RS_IOC_MAGIC, nr, c->size);
	}
}

static void choose_command(struct fuzz_memory *f, struct fuzz_call *c)
{
	if (one_of(f, 16)) {
		choose_nothing(f, c);
	} else {
		c->command = &fuzz_commands[fuzz_below(f, NR_FUZZ_COMMANDS)];
		c->size = c->command->size;
		switch (fuzz_below(f, 16)) {
		case 0:
			c->size = fuzz_below(f, c->size);
			break;
		case 1:
		case 2:
			c->size = c->command->first_size;
			break;
		case 3:
			c->size += 1 + fuzz_below(f, 24);
			break;
		case 4:
			if (one_of(f, 32))
				c->size = MAX_SIZE - fuzz_below(f, 2);
			break;
		}
		c->cmd = (c->command->cmd & ~IOCSIZE_MASK) | c->size << IOCSIZE_SHIFT;
	}
	/* A number has 32 bits. */
	if (one_of(f, 16))
		c->cmd |= 1UL << (32 + fuzz_below(f, 32));
}

static void choose_place(struct fuzz_memory *f, struct fuzz_call *c)
{
	size_t inside = min_size(c->size, page_size);

	c->in_view = true;
	switch (fuzz_below(f, 16)) {
	case 0:
		c->in_view = false;
		c->arg = address_of_nothing(f);
		return;
	case 1:
		/* Across the end of what can be written, or right before it. */
		c->at = writable_bytes() - fuzz_below(f, inside + 1);
		break;
	case 2:
		/* Across the end of what can be read. */
		c->at = view_bytes() - fuzz_below(f, inside + 1);
		break;
	case 3:
		c->at = writable_bytes() + fuzz_below(f, page_size / 2);
		break;
	case 4:
		c->at = CANARY_BYTES + fuzz_below(f, 2048);
		break;
	default:
		c->at = CANARY_BYTES + 8 * fuzz_below(f, 256);
	}
	c->arg = f->view + c->at;
}

/* The part of the view that is prepared, and looked at afterwards. */
static size_t place_begin(const struct fuzz_call *c)
{
	return c->at > CANARY_BYTES ? c->at - CANARY_BYTES : 0;
}

static size_t place_end(const struct fuzz_call *c)
{
	return min_size(c->at + c->size + CANARY_BYTES, view_bytes());
}

static void put_into_place(struct fuzz_memory *f, struct fuzz_call *c)
{
	size_t begin = place_begin(c), end = place_end(c);
	size_t size = min_size(c->size, view_bytes() - c->at);
	size_t known = c->command ? c->command->size : sizeof(c->value);

	memset(want + begin, CANARY, end - begin);
	memcpy(want + c->at, &c->value, min_size(size, known));
	if (size > known) {
		memset(want + c->at + known, 0, size - known);
		if (one_of(f, 3))
			want[c->at + known + fuzz_below(f, size - known)] = 1 << fuzz_below(f, 8);
	}
	memcpy(f->alias + begin, want + begin, end - begin);
}

void fuzz_make_call(struct fuzz_memory *f, struct fuzz_call *c)
{
	choose_command(f, c);
	fuzz_fill_value(f, c);
	choose_place(f, c);
	if (c->in_view)
		put_into_place(f, c);
	/* What a caller does not know counts as zero. */
	if (c->command && c->size < c->command->size)
		memset(c->value.bytes + c->size, 0, c->command->size - c->size);
}

static void either(struct fuzz_call *c, int one, int other)
{
	c->errors[0] = one;
	c->errors[1] = other;
}

static void exactly(struct fuzz_call *c, int error)
{
	either(c, error, error);
}

/* How much of the structure both sides know. */
static size_t known_bytes(const struct fuzz_call *c)
{
	return min_size(c->size, c->command->size);
}

/* Whether the structure can be read and is not longer than what is known. */
static bool expect_read(struct fuzz_call *c)
{
	size_t known = known_bytes(c), readable, i;

	if (c->size < c->command->first_size) {
		exactly(c, EINVAL);
		return false;
	}
	readable = c->in_view ? view_bytes() - c->at : 0;
	if (readable < known) {
		exactly(c, EFAULT);
		return false;
	}
	for (i = known; i < min_size(c->size, readable); i++)
		if (want[c->at + i])
			break;
	if (i < min_size(c->size, readable)) {
		either(c, E2BIG, readable < c->size ? EFAULT : E2BIG);
		return false;
	}
	if (i < c->size) {
		exactly(c, EFAULT);
		return false;
	}
	return true;
}

static bool wraps(const struct mlock_rs_range *range)
{
	__u64 end = range->addr + range->len;

	return end < range->addr || end > -(__u64)page_size;
}

/* Whether the array can be read and its ranges are ranges. */
static bool expect_ranges(struct fuzz_call *c)
{
	const struct mlock_rs_lockv *v = &c->value.lockv;
	const struct mlock_rs_range *ranges = (void *)(uintptr_t)v->ranges;
	bool complete = c->readable_ranges >= v->nr_ranges;
	size_t i;

	if (v->nr_ranges > MLOCK_RS_MAX_RANGES) {
		exactly(c, EINVAL);
		return false;
	}
	for (i = 0; i < min_size(c->readable_ranges, v->nr_ranges); i++) {
		if (wraps(&ranges[i])) {
			either(c, EINVAL, complete ? EINVAL : EFAULT);
			return false;
		}
	}
	if (!complete)
		exactly(c, EFAULT);
	return complete;
}

static bool locks(const struct fuzz_call *c)
{
	return c->command->cmd == MLOCK_RS_LOCK || c->command->cmd == MLOCK_RS_LOCKV;
}

static __u32 flags_of(const struct fuzz_call *c)
{
	if (c->command->cmd == MLOCK_RS_PROGRESS)
		return c->value.progress.flags;
	return c->command->vector ? c->value.lockv.flags : c->value.lock.flags;
}

static __u32 reserved_of(const struct fuzz_call *c)
{
	if (c->command->cmd == MLOCK_RS_PROGRESS)
		return c->value.progress.__reserved;
	return c->command->vector ? 0 : c->value.lock.__reserved;
}

/* LOCK and LOCKV: how the threads and the lock are to be used. */
static bool expect_manner(struct fuzz_call *c)
{
	const union fuzz_argument *v = &c->value;
	__u32 workers = c->command->vector ? v->lockv.nr_workers : v->lock.nr_workers;
	__u32 slice = c->command->vector ? v->lockv.slice_us : v->lock.slice_us;

	return workers <= MLOCK_RS_MAX_WORKERS && slice <= MLOCK_RS_MAX_SLICE_US &&
	       (!slice || flags_of(c) & MLOCK_RS_LOCK_YIELD);
}

/* Whether the arguments are such that the memory matters. */
static bool expect_arguments(struct fuzz_call *c)
{
	if (flags_of(c) & ~c->command->known_flags || reserved_of(c)) {
		exactly(c, EINVAL);
		return false;
	}
	if (locks(c) && !expect_manner(c)) {
		bool complete = !c->command->vector ||
				c->readable_ranges >= c->value.lockv.nr_ranges;

		either(c, EINVAL, complete ? EINVAL : EFAULT);
		return false;
	}
	return !c->command->vector || expect_ranges(c);
}

static enum lock_mode lock_mode(const struct fuzz_call *c)
{
	__u32 flags = flags_of(c);

	if (c->command->cmd == MLOCK_RS_UNLOCK || c->command->cmd == MLOCK_RS_UNLOCKV)
		return UNLOCK;
	return flags & MLOCK_RS_LOCK_ONFAULT ? LOCK_ONFAULT : LOCK_RESIDENT;
}

/* One range of the arena is one chunk of work, and leaves nothing to a helper. */
static bool asked_for_help(const struct fuzz_call *c)
{
	return c->command->vector && c->value.lockv.nr_workers > 1 && c->value.lockv.nr_ranges > 1;
}

static void expect_change(struct fuzz_memory *f, struct fuzz_call *c, struct answer *answer)
{
	const struct mlock_rs_range one = { c->value.lock.addr, c->value.lock.len };
	const struct mlock_rs_range *ranges = &one;
	size_t nr = 1;

	if (c->command->vector) {
		ranges = (void *)(uintptr_t)c->value.lockv.ranges;
		nr = c->value.lockv.nr_ranges;
	}
	model_edit(&f->arena, lock_mode(c), ranges, nr, answer);
	model_populate(&f->arena);
	if (answer->max_vmas && lock_mode(c) == LOCK_RESIDENT && asked_for_help(c))
		model_helped(&f->arena, ranges, nr);
	exactly(c, answer->error);
}

static void set_result(struct fuzz_call *c, const struct answer *a)
{
	union fuzz_argument *v = &c->value;
	/* A choice is settled by what came. */
	__u32 error = c->got;

	switch (c->command->cmd) {
	case MLOCK_RS_LOCK:
		v->lock.locked = a->changed;
		v->lock.populated = a->populated;
		v->lock.fail_addr = a->fail_addr;
		v->lock.nr_vmas = a->min_vmas;
		v->lock.error = error;
		break;
	case MLOCK_RS_UNLOCK:
		v->unlock.unlocked = a->changed;
		v->unlock.fail_addr = a->fail_addr;
		v->unlock.nr_vmas = a->min_vmas;
		v->unlock.error = error;
		break;
	case MLOCK_RS_LOCKV:
		v->lockv.locked = a->changed;
		v->lockv.populated = a->populated;
		v->lockv.fail_addr = a->fail_addr;
		v->lockv.nr_vmas = a->min_vmas;
		v->lockv.error = error;
		break;
	case MLOCK_RS_UNLOCKV:
		v->unlockv.unlocked = a->changed;
		v->unlockv.fail_addr = a->fail_addr;
		v->unlockv.nr_vmas = a->min_vmas;
		v->unlockv.error = error;
		break;
	case MLOCK_RS_QUERY:
		v->query.mapped = a->mapped;
		v->query.locked = a->locked;
		v->query.onfault = a->onfault;
		v->query.resident = a->resident;
		v->query.nr_vmas = a->min_vmas;
		v->query.state = a->state;
		v->query.error = error;
		v->query.__reserved_out = 0;
		break;
	case MLOCK_RS_PROGRESS:
		/* Nothing is under way. */
		v->progress.wanted = 0;
		v->progress.populated = 0;
		v->progress.nr_calls = 0;
		v->progress.__reserved_out = 0;
		break;
	case MLOCK_RS_ABI:
		v->abi.features = MLOCK_RS_FEATURE_LOCK | MLOCK_RS_FEATURE_ONFAULT |
				  MLOCK_RS_FEATURE_VECTOR | MLOCK_RS_FEATURE_QUERY |
				  MLOCK_RS_FEATURE_YIELD | MLOCK_RS_FEATURE_INTERRUPTIBLE |
				  MLOCK_RS_FEATURE_PROGRESS | MLOCK_RS_FEATURE_WORKERS;
		v->abi.version = MLOCK_RS_ABI_VERSION;
		v->abi.max_ranges = MLOCK_RS_MAX_RANGES;
		break;
	}
}

/*
 * What helpers brought in is resident or not: take over what QUERY says of it. One that reaches
 * beyond the arena finds the program, too. It may find more mapped and resident than the arena has,
 * but nothing else is locked: take over what it says of the rest.
 */
static bool take_over_query(const struct fuzz_memory *f, const struct fuzz_call *c,
			    struct answer *a)
{
	struct mlock_rs_query seen;

	memcpy(&seen, f->alias + c->at, sizeof(seen));
	if (c->value.query.addr >= f->arena.start - QUIET_BYTES &&
	    c->value.query.addr + c->value.query.len <= f->arena.start + QUIET_BYTES) {
		if (seen.resident < a->resident || seen.resident > a->max_resident)
			return false;
		/* All is there only if all is. */
		if (seen.resident < a->max_resident)
			a->state = 0;
		a->resident = seen.resident;
		return true;
	}
	if (seen.mapped < a->mapped || seen.resident < a->resident || seen.resident > seen.mapped ||
	    seen.nr_vmas < a->min_vmas)
		return false;
	a->mapped = seen.mapped;
	a->resident = seen.resident;
	a->min_vmas = seen.nr_vmas;
	a->max_vmas = seen.nr_vmas;
	return true;
}

/*
 * How many threads helped, and how often the lock was given up: takes over what cannot be known.
 * Returns false if it cannot be right.
 */
static bool take_over_manner(const struct fuzz_memory *f, struct fuzz_call *c,
			     const struct answer *answer)
{
	union fuzz_argument seen = {}, *v = &c->value;
	__u32 workers, most;

	if (!locks(c))
		return true;
	memcpy(&seen, f->alias + c->at, known_bytes(c));
	workers = c->command->vector ? v->lockv.nr_workers : v->lock.nr_workers;
	most = workers ? workers - 1 : MLOCK_RS_MAX_WORKERS - 1;
	/* Nothing was populated: nobody helped. */
	if (lock_mode(c) != LOCK_RESIDENT || !answer->max_vmas)
		most = 0;
	if (c->command->vector) {
		v->lockv.nr_helpers = seen.lockv.nr_helpers;
		/* There is nobody to give the lock up for. */
		v->lockv.nr_gaps = 0;
		return seen.lockv.nr_helpers <= most;
	}
	v->lock.nr_helpers = seen.lock.nr_helpers;
	v->lock.nr_gaps = 0;
	return seen.lock.nr_helpers <= most;
}

/* Puts the result where it has to be. Returns false if it cannot be right. */
static bool expect_result(struct fuzz_memory *f, struct fuzz_call *c, struct answer *answer)
{
	const struct fuzz_command *command = c->command;
	size_t result = c->at + command->result, end = c->at + known_bytes(c);

	if (end > writable_bytes()) {
		if (!c->errors[0])
			exactly(c, EFAULT);
		/* What lies before the page that cannot be written may have been. */
		if (result < writable_bytes())
			memcpy(want + result, f->alias + result, writable_bytes() - result);
		return true;
	}
	if (command->cmd == MLOCK_RS_QUERY && !answer->error && !take_over_query(f, c, answer))
		return false;
	if (command->nr_vmas != MISSING) {
		__u32 nr_vmas;

		memcpy(&nr_vmas, f->alias + c->at + command->nr_vmas, sizeof(nr_vmas));
		if (nr_vmas < answer->min_vmas || nr_vmas > answer->max_vmas)
			return false;
		answer->min_vmas = nr_vmas;
	}
	set_result(c, answer);
	if (!take_over_manner(f, c, answer))
		return false;
	memcpy(want + result, c->value.bytes + command->result,
	       known_bytes(c) - command->result);
	return true;
}

/* What must come of the call. Returns false if there is something that cannot. */
static bool expect(struct fuzz_memory *f, struct fuzz_call *c)
{
	struct answer answer = {};

	exactly(c, ENOTTY);
	if (!c->command || !expect_read(c))
		return true;
	exactly(c, 0);
	if (c->command->cmd != MLOCK_RS_ABI && expect_arguments(c)) {
		if (c->command->cmd == MLOCK_RS_PROGRESS) {
			exactly(c, 0);
		} else if (c->command->cmd == MLOCK_RS_QUERY) {
			model_query(&f->arena, c->value.query.addr, c->value.query.len, &answer);
			exactly(c, answer.error);
		} else {
			expect_change(f, c, &answer);
		}
	}
	return expect_result(f, c, &answer);
}

const char *fuzz_check_call(struct fuzz_memory *f, struct fuzz_call *c)
{
	c->got = ioctl(f->dev, c->cmd, c->arg) ? errno : 0;
	if (!expect(f, c))
		return "the result contradicts itself";
	if (c->got != c->errors[0] && c->got != c->errors[1])
		return "the errno is wrong";
	if (c->in_view && memcmp(want + place_begin(c), f->alias + place_begin(c),
				 place_end(c) - place_begin(c)))
		return "the bytes of the structure or around it are wrong";
	return NULL;
}

static const char *error_name(int error)
{
	return error ? strerror(error) : "success";
}

void fuzz_print_call(const struct fuzz_memory *f, const struct fuzz_call *c)
{
	char pages[MODEL_PAGES + 1];
	size_t i, printed = 0;

	ksft_print_msg("%s, number %#lx, %zu bytes at %p\n", c->command ? c->command->name : "none",
		       c->cmd, c->size, c->arg);
	if (c->command && c->command->vector)
		ksft_print_msg("%u ranges at %#llx (%zu can be read), flags %#x\n",
			       c->value.lockv.nr_ranges, c->value.lockv.ranges, c->readable_ranges,
			       c->value.lockv.flags);
	else if (c->command)
		ksft_print_msg("addr %#llx, len %#llx, flags %#x, reserved %#x\n",
			       c->value.lock.addr, c->value.lock.len, flags_of(c),
			       reserved_of(c));
	if (c->command && locks(c))
		ksft_print_msg("%u workers, a slice of %u us\n",
			       c->command->vector ? c->value.lockv.nr_workers :
						    c->value.lock.nr_workers,
			       c->command->vector ? c->value.lockv.slice_us :
						    c->value.lock.slice_us);
	ksft_print_msg("%s; has to be: %s", error_name(c->got), error_name(c->errors[0]));
	printf(c->errors[0] == c->errors[1] ? "\n" : " or %s\n", error_name(c->errors[1]));
	model_states(&f->arena, pages);
	ksft_print_msg("the arena at %#llx has to be %s, limit %zd pages\n", f->arena.start, pages,
		       f->arena.limit_pages);
	for (i = place_begin(c); c->in_view && i < place_end(c) && printed < 16; i++)
		if (want[i] != f->alias[i] && ++printed)
			ksft_print_msg("byte %zd of the structure is %#x, has to be %#x\n",
				       (ssize_t)(i - c->at), f->alias[i], want[i]);
}
