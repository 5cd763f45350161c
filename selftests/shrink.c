// SPDX-License-Identifier: GPL-2.0
/*
 * Delta debugging. First steps are left out, in pieces of half the program, of a quarter and so on;
 * then the arguments of those that are left are made simpler; and all of it again, until nothing
 * helps any more.
 */
#include "shrink.h"

#include <string.h>

struct shrinking {
	struct program *p;
	fails_fn fails;
	void *arg;
	unsigned int tries;
};

/* Takes @candidate if it still fails. */
static bool try(struct shrinking *sh, const struct program *candidate)
{
	if (program_equal(candidate, sh->p))
		return false;
	sh->tries++;
	if (!sh->fails(candidate, sh->arg))
		return false;
	*sh->p = *candidate;
	return true;
}

/*
 * The same for a candidate with @pages less in its ranges than the program has: where there is a
 * limit, it may be what fits to them that fails, and has to be lower by as much.
 */
static bool try_with_less(struct shrinking *sh, const struct program *candidate,
			  unsigned int pages)
{
	struct program lower = *candidate;
	bool has_limit = false;
	size_t i;

	if (try(sh, candidate))
		return true;
	for (i = 0; i < lower.nr; i++)
		if (lower.step[i].op == OP_LIMIT && lower.step[i].arg[0] >= pages) {
			lower.step[i].arg[0] -= pages;
			has_limit = true;
		}
	return has_limit && try(sh, &lower);
}

static bool try_without(struct shrinking *sh, size_t at, size_t nr)
{
	unsigned int pages = nr == 1 ? sh->p->step[at].nr : 0;
	struct program less = *sh->p;

	memmove(&less.step[at], &less.step[at + nr], (less.nr - at - nr) * sizeof(less.step[0]));
	less.nr -= nr;
	return pages ? try_with_less(sh, &less, pages) : try(sh, &less);
}

static bool leave_steps_out(struct shrinking *sh)
{
	bool shrunk = false;
	size_t chunk, at;

	for (chunk = (sh->p->nr + 1) / 2; chunk; chunk /= 2) {
		/* From the end: later steps lean on earlier ones. */
		for (at = sh->p->nr; at;) {
			size_t nr = at < chunk ? at : chunk;

			at -= nr;
			if (nr < sh->p->nr)
				shrunk |= try_without(sh, at, nr);
		}
	}
	return shrunk;
}

static bool try_range(struct shrinking *sh, size_t i, unsigned int first, unsigned int nr)
{
	struct program simpler = *sh->p;

	simpler.step[i].first = first;
	simpler.step[i].nr = nr;
	return try_with_less(sh, &simpler, sh->p->step[i].nr - nr);
}

/* Half of the range, or a page less at one end. */
static bool narrow(struct shrinking *sh, size_t i)
{
	const struct step *s = &sh->p->step[i];
	bool shrunk = false;

	while (s->nr > 1) {
		unsigned int half = s->nr / 2;

		if (!try_range(sh, i, s->first, half) &&
		    !try_range(sh, i, s->first + s->nr - half, half) &&
		    !try_range(sh, i, s->first, s->nr - 1) &&
		    !try_range(sh, i, s->first + 1, s->nr - 1))
			break;
		shrunk = true;
	}
	return shrunk;
}

/* The first value of an argument is the plainest. */
static bool plain_arguments(struct shrinking *sh, size_t i)
{
	bool shrunk = false;
	size_t a;

	for (a = 0; a < step_nr_args(&sh->p->step[i]); a++) {
		struct program simpler = *sh->p;

		simpler.step[i].arg[a] = 0;
		shrunk |= try(sh, &simpler);
	}
	return shrunk;
}

static bool try_op(struct shrinking *sh, size_t i, enum op op)
{
	struct program simpler = *sh->p;

	simpler.step[i].op = op;
	return try(sh, &simpler);
}

static bool simplify(struct shrinking *sh)
{
	bool shrunk = false;
	size_t i;

	for (i = 0; i < sh->p->nr; i++) {
		if (step_has_range(&sh->p->step[i]))
			shrunk |= narrow(sh, i);
		shrunk |= plain_arguments(sh, i);
		if (sh->p->step[i].op == OP_ONFAULT)
			shrunk |= try_op(sh, i, OP_LOCK);
	}
	return shrunk;
}

/* All ranges towards the start of the arena, together. */
static bool shift_down(struct shrinking *sh)
{
	struct program lower = *sh->p;
	unsigned int least = ARENA_PAGES;
	size_t i;

	for (i = 0; i < lower.nr; i++)
		if (step_has_range(&lower.step[i]) && lower.step[i].first < least)
			least = lower.step[i].first;
	for (i = 0; i < lower.nr; i++)
		if (step_has_range(&lower.step[i]))
			lower.step[i].first -= least;
	return try(sh, &lower);
}

unsigned int shrink(struct program *p, fails_fn fails, void *arg)
{
	struct shrinking sh = { .p = p, .fails = fails, .arg = arg };
	bool shrunk;

	do {
		shrunk = leave_steps_out(&sh);
		shrunk |= simplify(&sh);
		shrunk |= shift_down(&sh);
	} while (shrunk);
	return sh.tries;
}
