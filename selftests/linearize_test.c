// SPDX-License-Identifier: GPL-2.0
/*
 * The judge of linear_test is judged: histories by hand, good ones that it has to accept and bad
 * ones that it has to refuse; and any number of made-up ones, with a mmap lock that is kept as
 * mlock_rs keeps it, or broken as mlock(2) and other mistakes break it. Needs no device.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>

#include "linearize.h"
#include "mlock_rs_test.h"

#define START		0x10000000ULL
#define NR_PAGES	4UL

FIXTURE(judge)
{
	struct history h;
};

static struct call *add(struct history *h, unsigned int thread, __u64 begin, __u64 end,
			enum call_kind kind, size_t first, size_t nr_pages)
{
	struct call *call = &h->call[h->nr_calls++];

	*call = (struct call) {
		.kind = kind,
		.thread = thread,
		.begin = begin,
		.end = end,
		.nr_ranges = 1,
		.range = { { START + first * page_size, nr_pages * page_size } },
	};
	return call;
}

/* All pages are there, not locked and not resident. */
FIXTURE_SETUP(judge)
{
	self->h.start = START;
	self->h.nr_pages = NR_PAGES;
	self->h.limit_pages = NO_LIMIT;
	add(&self->h, 0, 1, 2, CALL_MMAP, 0, NR_PAGES);
}

FIXTURE_TEARDOWN(judge)
{
}

static struct call *answers(struct call *call, int error, size_t changed, size_t populated,
			    __u32 nr_vmas)
{
	call->answer = (struct answer) {
		.error = error,
		.changed = changed * page_size,
		.populated = populated * page_size,
		.min_vmas = nr_vmas,
		.max_vmas = nr_vmas,
	};
	return call;
}

/* A LOCK that succeeds and finds one VMA, of which @newly pages were not locked. */
static struct call *locks(struct history *h, unsigned int thread, __u64 begin, __u64 end,
			  size_t first, size_t nr_pages, size_t newly)
{
	return answers(add(h, thread, begin, end, CALL_LOCK, first, nr_pages), 0, newly, nr_pages,
		       1);
}

/* A LOCK or UNLOCK that finds a hole. */
static void finds_hole(struct history *h, unsigned int thread, __u64 begin, __u64 end,
		       enum call_kind kind, size_t first, size_t nr_pages, size_t hole)
{
	struct call *call = add(h, thread, begin, end, kind, first, nr_pages);

	answers(call, ENOMEM, 0, 0, 0)->answer.fail_addr = START + hole * page_size;
}

static void unlocks(struct history *h, unsigned int thread, __u64 begin, __u64 end, size_t first,
		    size_t nr_pages, size_t unlocked)
{
	answers(add(h, thread, begin, end, CALL_UNLOCK, first, nr_pages), 0, unlocked, 0, 1);
}

/* A QUERY that finds pages in the notation of states(). */
static void sees(struct history *h, unsigned int thread, __u64 begin, __u64 end, size_t first,
		 const char *pages)
{
	struct call *call = add(h, thread, begin, end, CALL_QUERY, first, strlen(pages));
	struct answer *a = &call->answer;
	size_t i;

	for (i = 0; pages[i]; i++) {
		char lower = pages[i] | ('a' - 'A');

		if (pages[i] == '.')
			continue;
		a->mapped += page_size;
		a->locked += lower != 'u' ? page_size : 0;
		a->onfault += lower == 'f' ? page_size : 0;
		a->resident += lower != pages[i] ? page_size : 0;
		a->min_vmas += !i || lower != (pages[i - 1] | ('a' - 'A'));
	}
	a->max_vmas = a->min_vmas;
	a->max_resident = a->resident;
	if (strspn(pages, "LF") == strlen(pages))
		a->state = MLOCK_RS_QUERY_LOCKED_RESIDENT;
}

#define EXPECT_ACCEPTED()	expect_verdict(_metadata, &self->h, true)
#define EXPECT_REFUSED()	expect_verdict(_metadata, &self->h, false)

static void expect_verdict(struct __test_metadata *_metadata, const struct history *h, bool good)
{
	EXPECT_EQ(good, linearizable(h, NULL)) {
		history_print(h);
	}
}

TEST_F(judge, one_after_the_other)
{
	locks(&self->h, 1, 3, 4, 0, 3, 3);
	sees(&self->h, 2, 5, 6, 0, "LLLu");
	unlocks(&self->h, 1, 7, 8, 0, 3, 3);
	sees(&self->h, 2, 9, 10, 0, "UUUu");
	EXPECT_ACCEPTED();
}

TEST_F(judge, success_without_residency)
{
	locks(&self->h, 1, 3, 4, 0, 3, 3);
	sees(&self->h, 2, 5, 6, 0, "LLlu");
	EXPECT_REFUSED();
}

TEST_F(judge, success_without_the_lock)
{
	locks(&self->h, 1, 3, 4, 0, 3, 3);
	sees(&self->h, 2, 5, 6, 0, "LLUu");
	EXPECT_REFUSED();
}

TEST_F(judge, seen_before_it_began)
{
	sees(&self->h, 2, 3, 4, 0, "LLLu");
	locks(&self->h, 1, 5, 6, 0, 3, 3);
	EXPECT_REFUSED();
}

TEST_F(judge, seen_while_it_ran)
{
	locks(&self->h, 1, 3, 8, 0, 3, 3);
	sees(&self->h, 2, 4, 5, 0, "LLLu");
	EXPECT_ACCEPTED();
}

TEST_F(judge, half_of_the_pages_are_there)
{
	locks(&self->h, 1, 3, 8, 0, 3, 3);
	sees(&self->h, 2, 4, 5, 0, "Lllu");
	sees(&self->h, 2, 6, 7, 0, "LLlu");
	EXPECT_ACCEPTED();
}

/* VMA by VMA: the edit is one instant. */
TEST_F(judge, half_of_the_pages_are_locked)
{
	locks(&self->h, 1, 3, 8, 0, 3, 3);
	sees(&self->h, 2, 4, 5, 0, "lluu");
	EXPECT_REFUSED();
}

TEST_F(judge, pages_come_and_do_not_go)
{
	locks(&self->h, 1, 3, 8, 0, 3, 3);
	sees(&self->h, 2, 4, 5, 0, "LLlu");
	sees(&self->h, 3, 6, 7, 0, "Lllu");
	EXPECT_REFUSED();
}

TEST_F(judge, pages_come_in_the_order_of_their_addresses)
{
	locks(&self->h, 1, 3, 8, 0, 3, 3);
	sees(&self->h, 2, 4, 5, 2, "L");
	sees(&self->h, 3, 6, 7, 0, "l");
	EXPECT_REFUSED();
}

/* What mlock(2) lets through. */
TEST_F(judge, page_replaced_during_the_call)
{
	locks(&self->h, 1, 3, 8, 0, 3, 3);
	add(&self->h, 2, 4, 5, CALL_MMAP, 1, 1);
	/* Mapped anew, not locked, but resident: the call has brought it in afterwards. */
	sees(&self->h, 0, 9, 10, 1, "U");
	EXPECT_REFUSED();
}

TEST_F(judge, page_replaced_before_or_after_the_call)
{
	struct call *lock = locks(&self->h, 1, 3, 8, 0, 3, 3);

	add(&self->h, 2, 4, 5, CALL_MMAP, 1, 1);
	sees(&self->h, 0, 9, 10, 0, "LLL");
	EXPECT_ACCEPTED();

	/* Both have overlapped all the same. */
	self->h.nr_calls--;
	sees(&self->h, 0, 9, 10, 0, "LuL");
	EXPECT_ACCEPTED();

	/* Then the LOCK had been through before. */
	lock->begin = 6;
	EXPECT_REFUSED();
}

/* UNLOCK gets in between the marking and the pages. */
TEST_F(judge, unlocked_between_edit_and_pages)
{
	locks(&self->h, 1, 3, 10, 0, 2, 2);
	unlocks(&self->h, 2, 4, 5, 0, 2, 2);
	sees(&self->h, 2, 6, 7, 0, "uu");
	EXPECT_REFUSED();
}

TEST_F(judge, prefix_locked_before_a_hole)
{
	add(&self->h, 0, 3, 4, CALL_MUNMAP, 2, 1);
	finds_hole(&self->h, 1, 5, 6, CALL_LOCK, 0, 4, 2);
	sees(&self->h, 1, 7, 8, 0, "ll.u");
	EXPECT_REFUSED();

	self->h.nr_calls--;
	sees(&self->h, 1, 7, 8, 0, "uu.u");
	EXPECT_ACCEPTED();
}

TEST_F(judge, hole_that_was_not_there_yet)
{
	finds_hole(&self->h, 1, 3, 4, CALL_UNLOCK, 0, 4, 2);
	add(&self->h, 2, 5, 6, CALL_MUNMAP, 2, 1);
	EXPECT_REFUSED();
	/* As soon as they overlap it may have been. */
	self->h.call[1].end = 7;
	EXPECT_ACCEPTED();
}

TEST_F(judge, both_claim_the_same_pages)
{
	locks(&self->h, 1, 3, 6, 0, 3, 3);
	locks(&self->h, 2, 4, 5, 0, 3, 3);
	EXPECT_REFUSED();
	/* One of them, whichever it is. */
	self->h.call[1].answer.changed = 0;
	EXPECT_ACCEPTED();
}

static struct call *locks_both_ends(struct history *h)
{
	struct call *call = add(h, 1, 3, 10, CALL_LOCKV, 0, 1);

	call->range[1] = (struct mlock_rs_range) { START + 3 * page_size, page_size };
	call->nr_ranges = 2;
	return answers(call, 0, 2, 2, 2);
}

/* LOCKV with one hold of the lock for each range. */
TEST_F(judge, range_by_range)
{
	locks_both_ends(&self->h);
	sees(&self->h, 2, 4, 5, 0, "Luuu");
	EXPECT_REFUSED();

	/* Marked both, and one there is fine. */
	self->h.nr_calls--;
	sees(&self->h, 2, 4, 5, 0, "Luul");
	EXPECT_ACCEPTED();
}

TEST_F(judge, limit_exceeded_by_two_at_once)
{
	self->h.limit_pages = 3;
	locks(&self->h, 1, 3, 6, 0, 2, 2);
	locks(&self->h, 2, 4, 5, 2, 2, 2);
	EXPECT_REFUSED();

	self->h.nr_calls--;
	answers(add(&self->h, 2, 4, 5, CALL_LOCK, 2, 2), ENOMEM, 0, 0, 0);
	EXPECT_ACCEPTED();
}

/* LOCK with YIELD of three pages, none of them locked before. */
static struct call *yields(struct history *h, __u64 begin, __u64 end)
{
	return answers(add(h, 1, begin, end, CALL_LOCK_YIELD, 0, 3), 0, 3, 3, 1);
}

static void is_stale(struct call *call, size_t page, size_t populated)
{
	answers(call, ESTALE, 3, populated, 1)->answer.fail_addr = START + page * page_size;
}

TEST_F(judge, yield_alone)
{
	yields(&self->h, 3, 4);
	sees(&self->h, 2, 5, 6, 0, "LLLu");
	EXPECT_ACCEPTED();

	self->h.nr_calls--;
	sees(&self->h, 2, 5, 6, 0, "LLlu");
	EXPECT_REFUSED();
}

TEST_F(judge, yield_and_a_page_unlocked_meanwhile)
{
	struct call *lock = yields(&self->h, 3, 10);

	unlocks(&self->h, 2, 4, 5, 1, 1, 1);
	is_stale(lock, 1, 1);
	/* What came in, and whether the rest has, is left open. */
	sees(&self->h, 0, 11, 12, 0, "LUlu");
	EXPECT_ACCEPTED();
	self->h.nr_calls--;
	sees(&self->h, 0, 11, 12, 0, "luLu");
	EXPECT_ACCEPTED();

	/* Not at another page, */
	is_stale(lock, 2, 1);
	EXPECT_REFUSED();
	/* and not with more than what lies before it. */
	is_stale(lock, 1, 2);
	EXPECT_REFUSED();
}

TEST_F(judge, yield_goes_on_although_a_page_is_unlocked)
{
	yields(&self->h, 3, 10);
	unlocks(&self->h, 2, 4, 5, 1, 1, 1);
	/* Unlocked within the call, as somebody has seen who saw it at work. */
	sees(&self->h, 3, 6, 7, 0, "lulu");
	sees(&self->h, 0, 11, 12, 0, "LULu");
	EXPECT_REFUSED();
}

TEST_F(judge, yield_that_is_stale_without_a_reason)
{
	is_stale(yields(&self->h, 3, 10), 1, 1);
	EXPECT_REFUSED();
}

/* As in 2008: there is a VMA, but it is another one. */
TEST_F(judge, yield_populates_a_page_that_was_replaced)
{
	struct call *lock = yields(&self->h, 3, 8);

	add(&self->h, 2, 4, 5, CALL_MMAP, 1, 1);
	sees(&self->h, 0, 9, 10, 0, "LULu");
	EXPECT_REFUSED();
	is_stale(lock, 1, 1);
	EXPECT_REFUSED();
	self->h.nr_calls--;
	sees(&self->h, 0, 9, 10, 0, "Lulu");
	EXPECT_ACCEPTED();
}

TEST_F(judge, yield_and_all_that_does_no_harm)
{
	yields(&self->h, 3, 12);
	/* Locked and unlocked elsewhere, and looked at. */
	answers(add(&self->h, 2, 4, 5, CALL_LOCK, 3, 1), 0, 1, 1, 1);
	sees(&self->h, 3, 4, 6, 0, "LllL");
	add(&self->h, 2, 6, 7, CALL_MUNMAP, 3, 1);
	sees(&self->h, 3, 8, 9, 0, "Lll.");
	sees(&self->h, 0, 13, 14, 0, "LLL.");
	EXPECT_ACCEPTED();
}

TEST_F(judge, yield_of_a_page_that_nobody_may_touch)
{
	struct call *lock;

	add(&self->h, 0, 3, 4, CALL_MPROTECT, 1, 1)->prot = PROT_NONE;
	lock = answers(yields(&self->h, 5, 6), 0, 3, 3, 3);
	EXPECT_REFUSED();
	answers(lock, ENOMEM, 3, 1, 3)->answer.fail_addr = START + page_size;
	EXPECT_ACCEPTED();
}

/*
 * A helper finds so of the second page. The first one is made accessible before the caller is
 * there, and the second one as well: at no instant are both as the answer has them.
 */
TEST_F(judge, yield_of_a_page_that_nobody_might_touch_for_a_while)
{
	struct call *lock, *next;

	add(&self->h, 0, 3, 4, CALL_MPROTECT, 0, 2)->prot = PROT_NONE;
	lock = answers(yields(&self->h, 5, 10), ENOMEM, 3, 1, 2);
	lock->answer.fail_addr = START + page_size;
	add(&self->h, 2, 6, 7, CALL_MPROTECT, 1, 1)->prot = PROT_READ;
	add(&self->h, 2, 8, 9, CALL_MPROTECT, 0, 1)->prot = PROT_READ;
	EXPECT_ACCEPTED();
	/* The next one is another call. */
	next = answers(yields(&self->h, 11, 12), 0, 0, 3, 2);
	EXPECT_ACCEPTED();
	answers(next, ENOMEM, 0, 1, 2)->answer.fail_addr = START + page_size;
	EXPECT_REFUSED();
	self->h.nr_calls--;
	/* It is not there, */
	lock->answer.populated += page_size;
	EXPECT_REFUSED();
	/* and it is not this page. */
	lock->answer.fail_addr += page_size;
	EXPECT_REFUSED();
}

/* It has the lock for reading again, as a LOCK of the last page has that is at work. */
TEST_F(judge, yield_that_ends_while_a_lock_is_at_work)
{
	struct call *lock = yields(&self->h, 3, 10);

	locks(&self->h, 2, 5, 18, 3, 1, 1);
	sees(&self->h, 3, 6, 7, 0, "llll");
	sees(&self->h, 3, 12, 13, 0, "LLLl");
	EXPECT_ACCEPTED();
	/* But it cannot begin there. */
	self->h.nr_calls -= 2;
	lock->begin = 8;
	sees(&self->h, 3, 6, 7, 0, "uuul");
	sees(&self->h, 3, 12, 13, 0, "LLLl");
	EXPECT_REFUSED();
}

/* LOCKV with YIELD of the first page and the last one. */
TEST_F(judge, yield_of_two_ranges)
{
	struct call *lock = locks_both_ends(&self->h);

	lock->kind = CALL_LOCKV_YIELD;
	unlocks(&self->h, 2, 4, 5, 3, 1, 1);
	sees(&self->h, 3, 6, 7, 0, "luuu");
	sees(&self->h, 0, 11, 12, 0, "Luuu");
	EXPECT_REFUSED();
	answers(lock, ESTALE, 2, 1, 2)->answer.fail_addr = START + 3 * page_size;
	EXPECT_ACCEPTED();
	/* What lies between the ranges was not populated. */
	lock->answer.populated = 3 * page_size;
	EXPECT_REFUSED();
}

/* A LOCK of all pages that fails at the second one. */
static struct call *fails_at_the_second(struct history *h)
{
	struct call *call = add(h, 0, 3, 4, CALL_MPROTECT, 1, 1);

	call->prot = PROT_NONE;
	call = answers(add(h, 1, 5, 10, CALL_LOCK, 0, 4), ENOMEM, 4, 1, 3);
	call->answer.fail_addr = START + page_size;
	return call;
}

/* Only somebody else can have been there already. */
TEST_F(judge, what_lies_behind_a_failure_comes_with_helpers_only)
{
	struct call *lock = fails_at_the_second(&self->h);

	sees(&self->h, 2, 11, 12, 2, "Ll");
	EXPECT_REFUSED();
	lock->nr_helpers = 1;
	EXPECT_ACCEPTED();
	self->h.nr_calls--;
	sees(&self->h, 2, 11, 12, 2, "ll");
	EXPECT_ACCEPTED();
	/* But not the page that failed, and what comes before it has come. */
	self->h.nr_calls--;
	sees(&self->h, 2, 11, 12, 1, "L");
	EXPECT_REFUSED();
	self->h.nr_calls--;
	sees(&self->h, 2, 11, 12, 0, "l");
	EXPECT_REFUSED();
}

TEST_F(judge, with_helpers_pages_come_in_any_order)
{
	struct call *lock = locks(&self->h, 1, 3, 10, 0, 4, 4);

	sees(&self->h, 2, 4, 5, 3, "L");
	sees(&self->h, 2, 6, 7, 0, "l");
	EXPECT_REFUSED();
	lock->nr_helpers = 1;
	EXPECT_ACCEPTED();
	/* When it is over all of them are there. */
	sees(&self->h, 2, 11, 12, 0, "LLLl");
	EXPECT_REFUSED();
}

/*
 * Histories at random, from threads that take a mmap lock step by step. Which thread makes the next
 * step is random too.
 */
#define SIM_THREADS	4
#define SIM_CALLS	4

enum breakage {
	NOTHING,
	/* LOCK gives the lock up between the edit and the pages, as mlock(2) does. */
	LOCK_LETS_GO,
	/* LOCK gives it up between two pages. */
	LOCK_LETS_GO_BETWEEN_PAGES,
	/* LOCKV locks one range after the other. */
	LOCKV_RANGE_BY_RANGE,
	/* QUERY looks without the lock. */
	QUERY_WITHOUT_LOCK,
	/* The number of bytes newly locked is computed before the lock is taken. */
	LOCKED_TOLD_TOO_EARLY,
};

enum step { BEGIN, TAKE, WORK, END };

struct sim_thread {
	struct call call[SIM_CALLS];
	unsigned int next;
	enum step step;
	/* Ranges of LOCKV that are done, and pages that a QUERY has looked at. */
	unsigned int ranges_done;
	size_t looked;
	/* What this LOCK has still to bring in. */
	__u64 pending;
	__u64 told;
	bool holds;
};

struct sim {
	enum breakage breakage;
	struct model m;
	__u64 clock, random;
	struct sim_thread thread[SIM_THREADS];
	/* The mmap lock. */
	int readers;
	bool writer;
};

static bool is_lock(const struct call *c)
{
	return c->kind == CALL_LOCK || c->kind == CALL_LOCKV;
}

static struct call sim_call(struct sim *s, unsigned int thread)
{
	static const enum call_kind kinds[] = {
		CALL_LOCK, CALL_LOCK, CALL_LOCKV, CALL_LOCKV, CALL_UNLOCK, CALL_UNLOCKV,
		CALL_QUERY, CALL_QUERY, CALL_LOCK_ONFAULT, CALL_MUNMAP, CALL_MMAP, CALL_MMAP,
	};
	struct call call = {
		.kind = kinds[random_number(&s->random) % ARRAY_SIZE(kinds)],
		.thread = thread + 1,
		.nr_ranges = 1,
	};
	unsigned int i;

	if (call_is_vector(&call))
		call.nr_ranges = 2;
	for (i = 0; i < call.nr_ranges; i++) {
		size_t first = random_number(&s->random) % NR_PAGES;
		size_t nr = 1 + random_number(&s->random) % (NR_PAGES - first);

		call.range[i].addr = START + first * page_size;
		call.range[i].len = nr * page_size;
	}
	return call;
}

static bool take_lock(struct sim *s, struct sim_thread *t, const struct call *c)
{
	if (call_only_looks(c) && s->breakage == QUERY_WITHOUT_LOCK)
		return true;
	if (s->writer || (s->readers && !call_only_looks(c)))
		return false;
	t->holds = true;
	if (call_only_looks(c))
		s->readers++;
	else
		s->writer = true;
	return true;
}

/* To go on with what needs the lock; false if it has to wait. */
static bool take_again(struct sim *s, struct sim_thread *t)
{
	if (!t->holds) {
		if (s->writer)
			return false;
		t->holds = true;
		s->readers++;
	}
	return true;
}

static void let_go(struct sim *s, struct sim_thread *t)
{
	if (t->holds)
		s->readers--;
	t->holds = false;
}

/* The whole of a change but for the pages of a LOCK, and the downgrade. */
static void edit(struct sim *s, struct sim_thread *t, struct call *c)
{
	struct call part = *c;

	if (s->breakage == LOCKV_RANGE_BY_RANGE && c->kind == CALL_LOCKV) {
		struct answer so_far = c->answer;

		part.range[0] = c->range[t->ranges_done];
		part.nr_ranges = 1;
		call_on_model(&part, &s->m, &c->answer);
		c->answer.changed += so_far.changed;
		c->answer.populated += so_far.populated;
	} else {
		call_on_model(c, &s->m, &c->answer);
		if (s->breakage == LOCKED_TOLD_TOO_EARLY && is_lock(c) && !c->answer.error)
			c->answer.changed = t->told;
	}
	t->ranges_done++;
	t->pending |= s->m.pending;
	s->m.pending = 0;
	s->writer = false;
	s->readers++;
	if (s->breakage == LOCK_LETS_GO)
		let_go(s, t);
}

static bool has_more_ranges(const struct sim *s, const struct sim_thread *t, const struct call *c)
{
	return s->breakage == LOCKV_RANGE_BY_RANGE && c->kind == CALL_LOCKV && !c->answer.error &&
	       t->ranges_done < c->nr_ranges;
}

/* One page of a LOCK, or of the look of a QUERY. Returns false if it has to wait. */
static bool work(struct sim *s, struct sim_thread *t, struct call *c)
{
	if (!call_only_looks(c)) {
		size_t page = t->pending ? __builtin_ctzll(t->pending) : 0;

		if (!t->pending)
			return true;
		if (!take_again(s, t))
			return false;
		/* Without a mapping there is nothing to bring in. */
		if (s->m.page[page])
			s->m.page[page] |= PAGE_RESIDENT;
		t->pending &= t->pending - 1;
		if (s->breakage == LOCK_LETS_GO_BETWEEN_PAGES)
			let_go(s, t);
		return true;
	}
	if (t->looked * page_size < c->range->len) {
		struct answer one;

		model_query(&s->m, c->range->addr + t->looked++ * page_size, page_size, &one);
		c->answer.mapped += one.mapped;
		c->answer.locked += one.locked;
		c->answer.onfault += one.onfault;
		c->answer.resident += one.resident;
	}
	return true;
}

static bool works_on(const struct sim_thread *t, const struct call *c)
{
	return t->pending || (call_only_looks(c) && t->looked * page_size < c->range->len);
}

static void finish(struct sim *s, struct sim_thread *t, struct call *c)
{
	let_go(s, t);
	c->answer.max_resident = c->answer.resident;
	if (call_only_looks(c) && c->answer.locked == c->range->len &&
	    c->answer.resident == c->range->len)
		c->answer.state = MLOCK_RS_QUERY_LOCKED_RESIDENT;
	/* VMAs are not simulated: the model allows for these bounds, whatever its own are. */
	c->answer.min_vmas = UINT32_MAX;
	c->answer.max_vmas = 0;
}

static __u64 would_lock(const struct sim *s, const struct call *c)
{
	struct model copy = s->m;
	struct answer answer;

	call_on_model(c, &copy, &answer);
	return answer.changed;
}

/* Returns false if the thread is done or has to wait for the lock. */
static bool sim_step(struct sim *s, struct sim_thread *t)
{
	struct call *c = &t->call[t->next];

	if (t->next == SIM_CALLS)
		return false;
	switch (t->step) {
	case BEGIN:
		c->begin = s->clock++;
		t->ranges_done = 0;
		t->looked = 0;
		t->told = would_lock(s, c);
		t->step = TAKE;
		return true;
	case TAKE:
		if (!take_lock(s, t, c))
			return false;
		if (!call_only_looks(c))
			edit(s, t, c);
		t->step = WORK;
		return true;
	case WORK:
		if (!work(s, t, c))
			return false;
		if (works_on(t, c))
			return true;
		finish(s, t, c);
		t->step = has_more_ranges(s, t, c) ? TAKE : END;
		return true;
	case END:
		c->end = s->clock++;
		t->next++;
		t->step = BEGIN;
		return true;
	}
	return false;
}

static void simulate(struct history *h, __u64 seed, enum breakage breakage)
{
	struct sim s = { .breakage = breakage, .random = seed, .clock = 3 };
	unsigned int i, idle = 0;
	size_t page;

	s.m = (struct model) {
		.start = START, .nr_pages = NR_PAGES, .limit_pages = NO_LIMIT,
	};
	model_mmap(&s.m, START, NR_PAGES * page_size);
	for (i = 0; i < SIM_THREADS * SIM_CALLS; i++)
		s.thread[i / SIM_CALLS].call[i % SIM_CALLS] = sim_call(&s, i / SIM_CALLS);
	/* Nobody can be stuck: who holds the lock goes on. */
	while (idle < 1000)
		idle = sim_step(&s, &s.thread[random_number(&s.random) % SIM_THREADS]) ? 0 :
		       idle + 1;

	h->nr_calls = 1;
	for (i = 0; i < SIM_THREADS * SIM_CALLS; i++)
		h->call[h->nr_calls++] = s.thread[i / SIM_CALLS].call[i % SIM_CALLS];
	for (page = 0; page < NR_PAGES; page++) {
		struct call *look = add(h, 0, s.clock, s.clock + 1, CALL_QUERY, page, 1);

		s.clock += 2;
		model_query(&s.m, look->range->addr, page_size, &look->answer);
	}
}

#define SIMULATIONS	1000

/* How many of SIMULATIONS histories are refused. */
static unsigned int refused(struct history *h, __u64 seed, enum breakage breakage)
{
	unsigned int i, refused = 0;

	for (i = 0; i < SIMULATIONS; i++) {
		simulate(h, seed + i, breakage);
		refused += !linearizable(h, NULL);
		if (refused && breakage == NOTHING) {
			ksft_print_msg("SEED=%llu\n", seed + i);
			history_print(h);
			break;
		}
	}
	return refused;
}

TEST_F(judge, made_up_histories)
{
	__u64 random = seed();

	TH_LOG("SEED=%llu", random);
	EXPECT_EQ(0, refused(&self->h, random, NOTHING));
}

/* One number of one answer, not a zero, is off by a page. Returns false if it finds none. */
static bool falsify(struct history *h, __u64 *random)
{
	int i;

	for (i = 0; i < 1000; i++) {
		struct answer *a = &h->call[random_number(random) % h->nr_calls].answer;
		__u64 *const numbers[] = {
			&a->changed, &a->populated, &a->mapped, &a->locked, &a->onfault,
			&a->resident,
		};
		__u64 *number = numbers[random_number(random) % ARRAY_SIZE(numbers)];

		if (!*number)
			continue;
		*number += random_number(random) & 1 ? page_size : -page_size;
		a->max_resident = a->resident;
		return true;
	}
	return false;
}

TEST_F(judge, made_up_histories_with_a_wrong_answer)
{
	unsigned int i, wrong = 0, refused = 0;
	__u64 random = seed();

	TH_LOG("SEED=%llu", random);
	for (i = 0; i < SIMULATIONS; i++) {
		__u64 choice = random + i;

		simulate(&self->h, random + i, NOTHING);
		if (!falsify(&self->h, &choice))
			continue;
		wrong++;
		refused += !linearizable(&self->h, NULL);
	}
	/* Now and then another order makes it right. */
	EXPECT_LT(wrong * 8 / 10, refused);
	TH_LOG("%u of %u refused", refused, wrong);
}

TEST_F(judge, made_up_histories_with_a_mistake)
{
	static const char *const names[] = {
		[LOCK_LETS_GO] = "LOCK lets go",
		[LOCK_LETS_GO_BETWEEN_PAGES] = "LOCK lets go between pages",
		[LOCKV_RANGE_BY_RANGE] = "LOCKV range by range",
		[QUERY_WITHOUT_LOCK] = "QUERY without the lock",
		[LOCKED_TOLD_TOO_EARLY] = "bytes locked told too early",
	};
	enum breakage breakage;
	__u64 random = seed();

	TH_LOG("SEED=%llu", random);
	for (breakage = LOCK_LETS_GO; breakage < ARRAY_SIZE(names); breakage++) {
		unsigned int nr = refused(&self->h, random, breakage);

		/* Not each run of it does harm; that none does is as good as impossible. */
		EXPECT_LT(SIMULATIONS / 100, nr);
		TH_LOG("%s: %u of %u refused", names[breakage], nr, SIMULATIONS);
	}
}

TEST_HARNESS_MAIN
