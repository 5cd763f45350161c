// SPDX-License-Identifier: GPL-2.0
/*
 * The differences that the differential test allows: when one is to be expected, and what exactly
 * mlock(2), mlock2(2) and munlock(2) do then.
 */
#define _GNU_SOURCE
#include "allowed.h"

#include "mlock_rs_test.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

const char *allowed_name(enum allowed allowed)
{
	static const char *const names[NR_ALLOWED] = {
		[NO_DIFFERENCE] = "none",
		[HOLE_LOCK] = "hole-lock",
		[HOLE_UNLOCK] = "hole-unlock",
		[LENGTH_ROUNDS_TO_0] = "length-rounds-to-0",
		[ARGUMENT_BEFORE_PERMISSION] = "argument-before-permission",
		[ARGUMENT_BEFORE_LIMIT] = "argument-before-limit",
		[NO_ROOM_TO_SPLIT] = "no-room-to-split",
		[UNEVICTABLE_LATE] = "unevictable-late",
		[MLOCK_COUNT_LOST] = "mlock-count-lost",
	};

	return names[allowed];
}

struct lock_range lock_range(const struct step *s)
{
	struct lock_range r = {
		.addr = (unsigned long)arena_page(s->first),
		.len = s->nr * page_size,
		.first = s->first,
		.nr = s->nr,
	};

	switch ((enum lock_edge)s->arg[0]) {
	case EDGE_PAGES:
		break;
	case EDGE_INSIDE:
		r.addr += 77;
		r.len -= 99;
		break;
	case EDGE_CORNERS:
		r.addr += page_size - 1;
		r.len = s->nr > 1 ? r.len - 2 * page_size + 2 : 1;
		break;
	case EDGE_EMPTY:
		r.len = 0;
		r.nr = 0;
		break;
	case EDGE_NO_BYTE:
		r.addr += 77;
		r.len = 0;
		r.nr = 1;
		break;
	case EDGE_ROUNDS_TO_0:
		r.len = -1UL;
		r.nr = 0;
		break;
	case EDGE_WRAPS:
		r.len = -r.addr;
		r.nr = 0;
		break;
	}
	return r;
}

unsigned int hole_in(const struct shot *shot, const struct lock_range *range)
{
	unsigned int page;

	for (page = range->first; page < range->first + range->nr; page++)
		if (!vma_of(shot, page))
			break;
	return page;
}

static bool has_hole(const struct shot *shot, const struct lock_range *range)
{
	return hole_in(shot, range) < range->first + range->nr;
}

bool may_differ(const struct step *s, const struct shot *before)
{
	struct lock_range range;

	if (!is_lock_op(s))
		return false;
	range = lock_range(s);
	return !range.nr || has_hole(before, &range);
}

bool depends_on_vmlck(const struct step *s, const struct privileges *privileges)
{
	if (s->op == OP_UNLOCK || privileges->capable)
		return false;
	/* So long a range that a few pages matter even without a limit. */
	return privileges->limit != RLIM_INFINITY || s->arg[0] == EDGE_WRAPS;
}

/* What do_mlock() says before it looks at a VMA; 0 if it goes on. */
static int refusal(const struct lock_range *r, const struct shot *before,
		   const struct privileges *p)
{
	/* As in the kernel: rounded up in 64 bits. */
	unsigned long pages = (r->len + r->addr % page_size + page_size - 1) / page_size;
	unsigned long locked = before->vmlck + pages;
	unsigned int page;

	if (p->capable)
		return 0;
	if (!p->limit)
		return -EPERM;
	for (page = r->first; page < ARENA_PAGES && page < r->first + pages; page++) {
		const struct arena_vma *vma = vma_of(before, page);

		locked -= vma && vma->flags & VMA_LOCKED;
	}
	return locked > p->limit / page_size ? -ENOMEM : 0;
}

static struct expectation differ(enum allowed difference, int mlock_ret, int ioctl_ret)
{
	return (struct expectation){
		.difference = difference, .mlock_ret = mlock_ret, .ioctl_ret = ioctl_ret,
	};
}

static struct expectation expect_bad_argument(const struct step *s, int refused)
{
	if (refused == -EPERM)
		return differ(ARGUMENT_BEFORE_PERMISSION, -EPERM, -EINVAL);
	if (refused)
		return differ(ARGUMENT_BEFORE_LIMIT, -ENOMEM, -EINVAL);
	if (s->arg[0] == EDGE_ROUNDS_TO_0)
		return differ(LENGTH_ROUNDS_TO_0, 0, -EINVAL);
	return (struct expectation){};
}

struct expectation expect(const struct step *s, const struct shot *before,
			  const struct privileges *privileges)
{
	struct expectation e = {};
	struct lock_range range;
	int refused;

	if (!may_differ(s, before))
		return e;
	range = lock_range(s);
	refused = s->op == OP_UNLOCK ? 0 : refusal(&range, before, privileges);

	if (s->arg[0] == EDGE_ROUNDS_TO_0 || s->arg[0] == EDGE_WRAPS)
		return expect_bad_argument(s, refused);
	if (refused || hole_in(before, &range) == range.first)
		return e;
	e = differ(s->op == OP_UNLOCK ? HOLE_UNLOCK : HOLE_LOCK, -ENOMEM, -ENOMEM);
	e.first = range.first;
	e.nr = hole_in(before, &range) - range.first;
	return e;
}

static __u8 locks_of(const struct arena_vma *vma)
{
	return vma ? vma->flags & (VMA_LOCKED | VMA_ONFAULT) : 0;
}

static __u8 expected_locks(const struct expectation *e, const struct step *s,
			   const struct shot *before, unsigned int page)
{
	const struct arena_vma *vma = vma_of(before, page);

	if (page < e->first || page >= e->first + e->nr || vma->flags & VMA_DROPPABLE)
		return locks_of(vma);
	if (s->op == OP_UNLOCK)
		return 0;
	return s->op == OP_ONFAULT ? VMA_LOCKED | VMA_ONFAULT : VMA_LOCKED;
}

bool is_as_expected(const struct expectation *e, const struct step *s, const struct shot *before,
		    const struct shot *after, char *text, size_t size)
{
	const __u16 residency = 0xff;
	unsigned int page;

	for (page = 0; page < ARENA_PAGES; page++) {
		const struct arena_vma *vma = vma_of(after, page);
		__u8 want = expected_locks(e, s, before, page);

		if (!vma != !vma_of(before, page) || locks_of(vma) != want) {
			snprintf(text, size, "page %u: lock flags %#x, expected %#x", page,
				 locks_of(vma), want);
			return false;
		}
		/* It fails before it populates. */
		if ((after->page[page] ^ before->page[page]) & residency) {
			snprintf(text, size, "page %u: %#x, was %#x", page, after->page[page],
				 before->page[page]);
			return false;
		}
	}
	return true;
}
