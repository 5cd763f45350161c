// SPDX-License-Identifier: GPL-2.0
/*
 * The contract as a sequential model: what LOCK, UNLOCK, LOCKV, UNLOCKV and QUERY, and the
 * mmap(2), munmap(2) and mprotect(2) of private anonymous memory, make of a few pages and answer,
 * one call after the other.
 *
 * Written from the header and from mlock(2), not from the module.
 */
#include "lock_model.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "mlock_rs_test.h"

/* Which pages of the model a call is about, and where it first leaves them. */
struct cover {
	__u64 pages;
	/* The lowest page address outside of the model; NOWHERE if there is none. */
	__u64 outside;
};

#define NOWHERE	UINT64_MAX

static __u64 page_bits(size_t first, size_t end)
{
	__u64 below_end = end < 64 ? (1ULL << end) - 1 : ~0ULL;

	return below_end & ~((1ULL << first) - 1);
}

static __u64 end_of(const struct model *m)
{
	return m->start + m->nr_pages * page_size;
}

/* Adds a range as mlock(2) rounds it. Returns 0 or -EINVAL, if it wraps around. */
static int cover_range(const struct model *m, __u64 addr, __u64 len, struct cover *cover)
{
	const __u64 mask = page_size - 1;
	__u64 start = addr & ~mask, end = addr + len;

	if (end < addr || end > UINT64_MAX - mask)
		return -EINVAL;
	end = (end + mask) & ~mask;
	if (start == end)
		return 0;

	if (start < m->start || start >= end_of(m)) {
		if (start < cover->outside)
			cover->outside = start;
	} else if (end > end_of(m) && end_of(m) < cover->outside) {
		cover->outside = end_of(m);
	}

	if (start < m->start)
		start = m->start;
	if (end > end_of(m))
		end = end_of(m);
	if (start < end)
		cover->pages |= page_bits((start - m->start) / page_size,
					  (end - m->start) / page_size);
	return 0;
}

static __u64 address_of(const struct model *m, size_t page)
{
	return m->start + page * page_size;
}

/* The pages of @among that have all bits of @with and none of @without. */
static __u64 pages_that(const struct model *m, __u64 among, unsigned char with,
			unsigned char without)
{
	__u64 found = 0;
	size_t i;

	for (i = 0; i < m->nr_pages; i++)
		if ((m->page[i] & (with | without)) == with)
			found |= 1ULL << i;
	return found & among;
}

static __u64 bytes_that(const struct model *m, __u64 among, unsigned char with)
{
	return __builtin_popcountll(pages_that(m, among, with, 0)) * page_size;
}

/* Neighbours that differ in this are different VMAs. */
#define VMA_MASK	((unsigned char)~(PAGE_RESIDENT | PAGE_MAYBE | PAGE_FAILED))

static void count_vmas(const struct model *m, __u64 pages, struct answer *answer)
{
	size_t i;

	answer->min_vmas = 0;
	answer->max_vmas = 0;
	for (i = 0; i < m->nr_pages; i++) {
		bool with_previous = i && pages >> (i - 1) & 1 &&
				     !((m->page[i] ^ m->page[i - 1]) & VMA_MASK);

		if (!(pages >> i & 1) || !m->page[i])
			continue;
		answer->max_vmas++;
		answer->min_vmas += !with_previous;
	}
}

size_t model_locked_pages(const struct model *m)
{
	return bytes_that(m, ~0ULL, PAGE_LOCKED) / page_size;
}

/* Before anything changes. Returns 0 or -errno; @fail_addr is where. */
static int refuse(const struct model *m, enum lock_mode mode, const struct cover *cover,
		  __u64 *fail_addr)
{
	__u64 holes = pages_that(m, cover->pages, 0, PAGE_MAPPED);
	__u64 hole = holes ? address_of(m, __builtin_ctzll(holes)) : NOWHERE;
	size_t new_pages;

	if (cover->outside < hole)
		hole = cover->outside;
	if (hole != NOWHERE) {
		*fail_addr = hole;
		return -ENOMEM;
	}
	new_pages = __builtin_popcountll(pages_that(m, cover->pages, 0, PAGE_LOCKED));
	if (mode != UNLOCK && m->limit_pages != NO_LIMIT &&
	    model_locked_pages(m) + new_pages > m->limit_pages)
		return -ENOMEM;
	return 0;
}

/* What populating is going to bring in, and how it is going to end. */
static void plan_populate(struct model *m, __u64 pages, struct answer *answer)
{
	size_t i;

	for (i = 0; i < m->nr_pages; i++) {
		if (!(pages >> i & 1))
			continue;
		if (!(m->page[i] & (PAGE_READ | PAGE_WRITE))) {
			answer->error = ENOMEM;
			answer->fail_addr = address_of(m, i);
			return;
		}
		answer->populated += page_size;
		if (!(m->page[i] & PAGE_RESIDENT))
			m->pending |= 1ULL << i;
	}
}

void model_edit(struct model *m, enum lock_mode mode, const struct mlock_rs_range *ranges,
		size_t nr, struct answer *answer)
{
	struct cover cover = { .outside = NOWHERE };
	unsigned char lock = 0;
	size_t i;

	memset(answer, 0, sizeof(*answer));
	for (i = 0; i < nr && !answer->error; i++)
		answer->error = -cover_range(m, ranges[i].addr, ranges[i].len, &cover);
	if (!answer->error && mode != UNLOCK && !m->limit_pages)
		answer->error = EPERM;
	if (answer->error)
		return;
	answer->error = -refuse(m, mode, &cover, &answer->fail_addr);
	if (answer->error)
		return;

	count_vmas(m, cover.pages, answer);
	if (mode == UNLOCK)
		answer->changed = bytes_that(m, cover.pages, PAGE_LOCKED);
	else
		answer->changed = bytes_that(m, cover.pages, PAGE_MAPPED) -
				  bytes_that(m, cover.pages, PAGE_LOCKED);
	if (mode != UNLOCK)
		lock = PAGE_LOCKED | (mode == LOCK_ONFAULT ? PAGE_ONFAULT : 0);
	for (i = 0; i < m->nr_pages; i++) {
		if (!(cover.pages >> i & 1))
			continue;
		m->page[i] &= ~(PAGE_LOCKED | PAGE_ONFAULT);
		m->page[i] |= lock;
	}
	if (mode == LOCK_RESIDENT)
		plan_populate(m, cover.pages, answer);
}

static __u64 whole_pages(const struct model *m, const struct mlock_rs_range *ranges, size_t nr)
{
	struct cover cover = { .outside = NOWHERE };
	size_t i;

	for (i = 0; i < nr; i++)
		cover_range(m, ranges[i].addr, ranges[i].len, &cover);
	return cover.pages;
}

static __u64 pages_of(const struct model *m, __u64 addr, __u64 len)
{
	const struct mlock_rs_range range = { addr, len };

	return whole_pages(m, &range, 1);
}

/* Bytes of @pages before the page at @addr. */
static __u64 bytes_before(const struct model *m, __u64 pages, __u64 addr)
{
	return __builtin_popcountll(pages & page_bits(0, (addr - m->start) / page_size)) *
	       page_size;
}

static void bring_in(struct model *m, size_t page)
{
	m->page[page] |= PAGE_RESIDENT;
	m->page[page] &= ~PAGE_MAYBE;
}

void model_yield_begin(struct model *m, const struct mlock_rs_range *ranges, size_t nr,
		       struct answer *answer)
{
	model_edit(m, LOCK_RESIDENT, ranges, nr, answer);
	m->pending = 0;
	if (answer->max_vmas)
		model_yield_goes_on(m, ranges, nr);
}

void model_yield_goes_on(struct model *m, const struct mlock_rs_range *ranges, size_t nr)
{
	__u64 pages = pages_that(m, whole_pages(m, ranges, nr), PAGE_LOCKED, PAGE_ONFAULT);
	size_t i;

	for (i = 0; i < m->nr_pages; i++) {
		if (!(pages >> i & 1))
			continue;
		if (!(m->page[i] & (PAGE_READ | PAGE_WRITE)))
			m->page[i] |= PAGE_FAILED;
		else if (!(m->page[i] & PAGE_RESIDENT))
			m->page[i] |= PAGE_MAYBE;
	}
}

void model_nobody_yields(struct model *m)
{
	size_t i;

	for (i = 0; i < m->nr_pages; i++)
		m->page[i] &= ~PAGE_FAILED;
}

/*
 * Success: at this instant all of it is locked, and what is not there comes in. ESTALE: all before
 * this page is locked, and this one is not, or only on fault. ENOMEM: as for a strict call, with
 * all of it locked; but the page may have failed a while ago, and what comes before it only be
 * there now.
 */
bool model_yield_end(struct model *m, const struct mlock_rs_range *ranges, size_t nr,
		     const struct answer *seen)
{
	__u64 pages = whole_pages(m, ranges, nr);
	__u64 lost = pages & ~pages_that(m, pages, PAGE_LOCKED, PAGE_ONFAULT);
	size_t i;

	if (seen->error == ESTALE)
		return lost && seen->fail_addr == address_of(m, __builtin_ctzll(lost)) &&
		       seen->populated <= bytes_before(m, pages, seen->fail_addr);
	if (lost || (seen->error && seen->error != ENOMEM))
		return false;
	for (i = 0; i < m->nr_pages; i++) {
		if (!(pages >> i & 1))
			continue;
		if (seen->error && seen->fail_addr == address_of(m, i))
			return (m->page[i] & PAGE_FAILED ||
				!(m->page[i] & (PAGE_READ | PAGE_WRITE))) &&
			       seen->populated == bytes_before(m, pages, seen->fail_addr);
		/* What had come in before it was protected may be left alone. */
		if (!(m->page[i] & (PAGE_READ | PAGE_WRITE | PAGE_RESIDENT | PAGE_MAYBE)))
			return false;
		bring_in(m, i);
	}
	return !seen->error && !seen->fail_addr &&
	       seen->populated == (__u64)__builtin_popcountll(pages) * page_size;
}

void model_populate_next(struct model *m)
{
	bring_in(m, __builtin_ctzll(m->pending));
	m->pending &= m->pending - 1;
}

void model_populate(struct model *m)
{
	while (m->pending)
		model_populate_next(m);
}

void model_helped(struct model *m, const struct mlock_rs_range *ranges, size_t nr)
{
	__u64 pages = whole_pages(m, ranges, nr);
	size_t i;

	for (i = 0; i < m->nr_pages; i++)
		if (pages >> i & 1 && m->page[i] & (PAGE_READ | PAGE_WRITE) &&
		    !(m->page[i] & PAGE_RESIDENT))
			m->page[i] |= PAGE_MAYBE;
}

void model_query(const struct model *m, __u64 addr, __u64 len, struct answer *answer)
{
	struct cover cover = { .outside = NOWHERE };
	__u64 all;

	memset(answer, 0, sizeof(*answer));
	answer->error = -cover_range(m, addr, len, &cover);
	if (answer->error)
		return;

	all = __builtin_popcountll(cover.pages) * page_size;
	answer->mapped = bytes_that(m, cover.pages, PAGE_MAPPED);
	answer->locked = bytes_that(m, cover.pages, PAGE_LOCKED);
	answer->onfault = bytes_that(m, cover.pages, PAGE_ONFAULT);
	answer->resident = bytes_that(m, cover.pages, PAGE_RESIDENT);
	answer->max_resident = answer->resident + bytes_that(m, cover.pages, PAGE_MAYBE);
	if (all && answer->locked == all && answer->max_resident == all &&
	    cover.outside == NOWHERE)
		answer->state = MLOCK_RS_QUERY_LOCKED_RESIDENT;
	count_vmas(m, cover.pages, answer);
}

int model_munmap(struct model *m, __u64 addr, __u64 len)
{
	__u64 pages = pages_of(m, addr, len);
	size_t i;

	for (i = 0; i < m->nr_pages; i++)
		if (pages >> i & 1)
			m->page[i] = 0;
	return 0;
}

int model_mmap(struct model *m, __u64 addr, __u64 len)
{
	__u64 pages = pages_of(m, addr, len);
	size_t i;

	for (i = 0; i < m->nr_pages; i++)
		if (pages >> i & 1)
			m->page[i] = PAGE_MAPPED | PAGE_READ | PAGE_WRITE;
	return 0;
}

int model_mprotect(struct model *m, __u64 addr, __u64 len, int prot)
{
	__u64 pages = pages_of(m, addr, len);
	unsigned char access = 0;
	size_t i;

	if (prot & PROT_READ)
		access |= PAGE_READ;
	if (prot & PROT_WRITE)
		access |= PAGE_WRITE;
	for (i = 0; i < m->nr_pages; i++) {
		unsigned char old = m->page[i];

		if (!(pages >> i & 1))
			continue;
		/* What lies before a hole is changed. */
		if (!old)
			return -ENOMEM;
		m->page[i] &= ~(PAGE_READ | PAGE_WRITE);
		m->page[i] |= access;
		/* Locked memory that becomes writable is copied at once, and so brought in. */
		if ((old & (PAGE_LOCKED | PAGE_ONFAULT | PAGE_WRITE)) == PAGE_LOCKED &&
		    access & PAGE_WRITE)
			bring_in(m, i);
	}
	return 0;
}

void model_states(const struct model *m, char *text)
{
	size_t i;

	for (i = 0; i < m->nr_pages; i++) {
		unsigned char page = m->page[i];

		if (!page)
			text[i] = '.';
		else if (page & PAGE_ONFAULT)
			text[i] = 'f';
		else
			text[i] = page & PAGE_LOCKED ? 'l' : 'u';
		if (page & PAGE_RESIDENT)
			text[i] += 'A' - 'a';
	}
	text[i] = '\0';
}

void model_states_like(const struct model *m, const char *seen, char *text)
{
	size_t i;

	model_states(m, text);
	for (i = 0; i < m->nr_pages; i++)
		if (m->page[i] & PAGE_MAYBE && (seen[i] | 0x20) == text[i])
			text[i] = seen[i];
}

bool answer_allows(const struct answer *expected, const struct answer *seen)
{
	return expected->error == seen->error && expected->changed == seen->changed &&
	       expected->populated == seen->populated && expected->fail_addr == seen->fail_addr &&
	       expected->mapped == seen->mapped && expected->locked == seen->locked &&
	       expected->onfault == seen->onfault && expected->resident <= seen->resident &&
	       seen->max_resident <= expected->max_resident &&
	       /* All is there only if all is. */
	       (seen->resident == expected->max_resident ? expected->state : 0) == seen->state &&
	       expected->min_vmas <= seen->min_vmas && seen->max_vmas <= expected->max_vmas;
}
