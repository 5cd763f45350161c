// SPDX-License-Identifier: GPL-2.0
/*
 * Compares two worlds: the errno of each step, the state after it, what the ioctls wrote back, and
 * for an allowed difference what each side did, exactly.
 */
#define _GNU_SOURCE
#include "compare.h"
#include "kselftest.h"

#include "mlock_rs_test.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

static bool is_state(enum finding_kind kind)
{
	return kind >= FOUND_VMAS && kind <= FOUND_PAGE_FLAGS;
}

bool findings_alike(enum finding_kind a, enum finding_kind b)
{
	return a == b || (is_state(a) && is_state(b));
}

/* Pages in a batch of the kernel: FOLIO_BATCH_SIZE. */
#define FOLIO_BATCH	31

const char *finding_name(enum finding_kind kind)
{
	static const char *const names[] = {
		[FOUND_NOTHING] = "no difference",
		[FOUND_DEATH] = "died",
		[FOUND_ERRNO] = "return value",
		[FOUND_RESULT] = "result of the ioctl",
		[FOUND_VMAS] = "VMAs",
		[FOUND_LOCKS] = "lock flags",
		[FOUND_VMLCK] = "VmLck",
		[FOUND_RESIDENCY] = "resident pages",
		[FOUND_PAGE_FLAGS] = "flags of a page",
		[FOUND_CHANGE] = "changed something and failed",
		[FOUND_UNEXPECTED] = "not what is expected at a hole",
		[FOUND_LATE] = "too many pages not yet unevictable",
	};

	return names[kind];
}

const char *outcome_name(enum outcome outcome)
{
	static const char *const names[NR_OUTCOMES] = {
		[OUT_OK] = "ok", [OUT_EPERM] = "EPERM", [OUT_ENOMEM] = "ENOMEM",
		[OUT_EAGAIN] = "EAGAIN", [OUT_EINVAL] = "EINVAL", [OUT_OTHER] = "other",
	};

	return names[outcome];
}

static enum outcome outcome_of(int ret)
{
	switch (ret) {
	case -EPERM:
		return OUT_EPERM;
	case -ENOMEM:
		return OUT_ENOMEM;
	case -EAGAIN:
		return OUT_EAGAIN;
	case -EINVAL:
		return OUT_EINVAL;
	default:
		return ret < 0 ? OUT_OTHER : OUT_OK;
	}
}

static __printf(3, 4)
bool found(struct finding *f, enum finding_kind kind, const char *format, ...)
{
	va_list ap;

	f->kind = kind;
	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	return true;
}

static enum finding_kind kind_of(enum difference_kind difference)
{
	static const enum finding_kind kinds[] = {
		[SAME] = FOUND_NOTHING,
		[DIFFERENT_VMAS] = FOUND_VMAS,
		[DIFFERENT_LOCKS] = FOUND_LOCKS,
		[DIFFERENT_VMLCK] = FOUND_VMLCK,
		[DIFFERENT_RESIDENCY] = FOUND_RESIDENCY,
		[DIFFERENT_PAGE_FLAGS] = FOUND_PAGE_FLAGS,
	};

	return kinds[difference];
}

/* What the ioctl wrote back, against the state before and after. */

static unsigned int newly(const struct shot *before, const struct shot *after, bool locked,
			  const struct lock_range *r)
{
	unsigned int page, nr = 0;

	for (page = r->first; page < r->first + r->nr; page++) {
		const struct arena_vma *was = vma_of(before, page), *is = vma_of(after, page);

		nr += was && is && !(was->flags & VMA_LOCKED) == locked &&
		      !(is->flags & VMA_LOCKED) == !locked;
	}
	return nr;
}

static unsigned int vmas_in(const struct shot *shot, const struct lock_range *r)
{
	unsigned int i, nr = 0;

	for (i = 0; r->nr && i < shot->nr_vmas; i++)
		nr += shot->vma[i].first < r->first + r->nr &&
		      shot->vma[i].first + shot->vma[i].nr > r->first;
	return nr;
}

static struct ioctl_result expected_result(const struct step *s, const struct entry *entry,
					   const struct shot *before, const struct shot *after,
					   bool split_failed)
{
	const struct lock_range r = lock_range(s);
	const struct ioctl_result *is = &entry->result;
	struct ioctl_result want = {
		.changed = newly(before, after, s->op != OP_UNLOCK, &r) * page_size,
		.nr_vmas = vmas_in(before, &r),
		.error = -entry->ioctl_ret,
	};

	if (!entry->ioctl_ret) {
		want.populated = s->op == OP_LOCK ? r.nr * page_size : 0;
	} else if (is->nr_vmas) {
		/* It failed in populating, somewhere; everything before that is resident. */
		want.fail_addr = is->fail_addr;
		want.populated = is->fail_addr - (unsigned long)arena_page(r.first);
		if (s->op != OP_LOCK)
			want.populated = 0;
	} else {
		want.nr_vmas = 0;
		/* Whether it was the hole or the limit is for the errno to be compared. */
		if (is->fail_addr && !split_failed)
			want.fail_addr = (unsigned long)arena_page(hole_in(before, &r));
		if (split_failed)
			want.fail_addr = is->fail_addr;
	}
	return want;
}

static bool result_is_wrong(const struct step *s, const struct entry *entry,
			    const struct shot *before, const struct shot *after,
			    bool split_failed, struct finding *f)
{
	const struct ioctl_result *is = &entry->result;
	const struct ioctl_result want = expected_result(s, entry, before, after, split_failed);

	if (is->changed == want.changed && is->populated == want.populated &&
	    is->fail_addr == want.fail_addr && is->nr_vmas == want.nr_vmas &&
	    is->error == want.error)
		return false;
	return found(f, FOUND_RESULT,
		     "changed %llu populated %llu fail_addr %#llx nr_vmas %u error %u, expected %llu %llu %#llx %u %u",
		     is->changed, is->populated, is->fail_addr, is->nr_vmas, is->error,
		     want.changed, want.populated, want.fail_addr, want.nr_vmas, want.error);
}

static bool ioctl_changed(enum allowed allowed, const struct journal *ioctls, size_t i,
			  struct finding *f)
{
	const struct shot *before = shot_before(ioctls, i), *after = &ioctls->uncaught[i];
	char text[200];

	/* A VMA that was split and not merged back, or merged with its neighbour, too: allowed. */
	return (allowed == NO_ROOM_TO_SPLIT ?
			shot_compare_mappings(before, after, text, sizeof(text)) :
			shot_compare(before, after, text, sizeof(text))) &&
	       found(f, FOUND_CHANGE, "%s: the ioctl failed and changed %s",
		     allowed_name(allowed), text);
}

/* An allowed difference: nothing on this side, exactly what is foretold on the other one. */
static bool allowed_is_wrong(const struct expectation *e, const struct step *s,
			     const struct journal *syscalls, const struct journal *ioctls,
			     size_t i, struct finding *f)
{
	char text[200];

	if (ioctls->entry[i].ioctl_ret != e->ioctl_ret)
		return found(f, FOUND_ERRNO, "%s: the ioctl returned %d, expected %d",
			     allowed_name(e->difference), ioctls->entry[i].ioctl_ret,
			     e->ioctl_ret);
	if (syscalls->entry[i].ret != e->mlock_ret)
		return found(f, FOUND_ERRNO, "%s: the system call returned %d, expected %d",
			     allowed_name(e->difference), syscalls->entry[i].ret, e->mlock_ret);
	if (ioctl_changed(e->difference, ioctls, i, f))
		return true;
	/* Where VMAs run out it may not come as far as to the hole. */
	if (shot_before(syscalls, i)->look == LOOK_FULL &&
	    syscalls->entry[i].after.look == LOOK_FULL &&
	    !is_crowded(syscalls, shot_before(syscalls, i)) &&
	    !is_as_expected(e, s, shot_before(syscalls, i), &syscalls->entry[i].after, text,
			    sizeof(text)))
		return found(f, FOUND_UNEXPECTED, "%s: after the system call %s",
			     allowed_name(e->difference), text);
	return false;
}

/*
 * The system call drains the batches of its CPU when it has populated. Here two may be full but for
 * one page: that of pages to be locked, and that of new ones, where those of shared memory wait.
 */
static bool too_late(struct pair *pair, const struct step *s, size_t i, struct finding *f)
{
	const struct entry *syscall = &pair->world[0].journal->entry[i];
	const struct entry *ioctl = &pair->world[1].journal->entry[i];

	if (s->op != OP_LOCK || syscall->ret || ioctl->after.look != LOOK_FULL || !lock_range(s).nr)
		return false;
	pair->tally.allowed[UNEVICTABLE_LATE] += ioctl->after.late > 0;
	if (!syscall->after.late && ioctl->after.late <= 2 * FOLIO_BATCH)
		return false;
	return found(f, FOUND_LATE, "Mlocked, but not Unevictable: %u | %u pages",
		     syscall->after.late, ioctl->after.late);
}

static bool ioctl_is_wrong(struct pair *pair, const struct step *s, size_t i, struct finding *f)
{
	const struct journal *syscalls = pair->world[0].journal;
	const struct journal *ioctls = pair->world[1].journal;
	const struct entry *entry = &ioctls->entry[i];
	const struct shot *after = &entry->after;
	struct expectation e = expect(s, shot_before(syscalls, i), &entry->privileges);
	bool no_room = split_failed(s, entry, shot_before(ioctls, i), ioctls);

	if (e.difference != NO_DIFFERENCE) {
		pair->tally.allowed[e.difference]++;
		after = &ioctls->uncaught[i];
		if (allowed_is_wrong(&e, s, syscalls, ioctls, i, f))
			return true;
	}
	if (no_room) {
		pair->tally.allowed[NO_ROOM_TO_SPLIT]++;
		after = &ioctls->uncaught[i];
		if (ioctl_changed(NO_ROOM_TO_SPLIT, ioctls, i, f))
			return true;
	}
	pair->tally.partly += entry->ioctl_ret && entry->result.nr_vmas;
	return result_is_wrong(s, entry, shot_before(ioctls, i), after, no_room, f) ||
	       too_late(pair, s, i, f);
}

/* From where VMAs begin and end somewhere else there is no going on in step. */
static bool parted(const struct pair *pair, const struct step *s, size_t i)
{
	const struct journal *ioctls = pair->world[1].journal;
	const struct shot *before = shot_before(ioctls, i);

	return is_lock_op(s) && pair->world[1].kind == WORLD_IOCTLS &&
	       split_failed(s, &ioctls->entry[i], before, ioctls) &&
	       !same_boundaries(before, &ioctls->uncaught[i]);
}

static bool has_lost_count(const struct shot *a, const struct shot *b)
{
	unsigned int page;

	for (page = 0; page < ARENA_PAGES; page++)
		if (a->look == LOOK_FULL && b->look == LOOK_FULL &&
		    is_count_lost(a->page[page], b->page[page]))
			return true;
	return false;
}

static bool step_differs(struct pair *pair, const struct step *s, size_t i, struct finding *f)
{
	const struct entry *a = &pair->world[0].journal->entry[i];
	const struct entry *b = &pair->world[1].journal->entry[i];
	enum difference_kind difference;
	char text[200];

	f->step = i;
	pair->tally.allowed[MLOCK_COUNT_LOST] += has_lost_count(&a->after, &b->after);
	if (is_lock_op(s) && pair->world[1].kind == WORLD_IOCTLS && ioctl_is_wrong(pair, s, i, f))
		return true;
	if (parted(pair, s, i))
		return false;
	if (a->ret != b->ret)
		return found(f, FOUND_ERRNO, "returned %d | %d", a->ret, b->ret);
	difference = shot_compare(&a->after, &b->after, text, sizeof(text));
	return difference && found(f, kind_of(difference), "%s", text);
}

static bool died(const struct world *w, const struct program *p, int status, struct finding *f)
{
	if (!status && w->journal->nr_done == p->nr)
		return false;
	f->step = w->journal->nr_done;
	if (WIFSIGNALED(status))
		return found(f, FOUND_DEATH, "%s: signal %d", w->kind ? "ioctls" : "system calls",
			     WTERMSIG(status));
	return found(f, FOUND_DEATH, "%s: exit status %d", w->kind ? "ioctls" : "system calls",
		     WEXITSTATUS(status));
}

void pair_init(struct pair *pair, enum world_kind kind)
{
	memset(&pair->tally, 0, sizeof(pair->tally));
	world_init(&pair->world[0], WORLD_SYSCALLS, 0);
	world_init(&pair->world[1], kind, 1);
}

bool pair_differs(struct pair *pair, const struct program *p, unsigned int full_every,
		  struct finding *f)
{
	struct tally *tally = &pair->tally;
	__u64 begin = now_ns();
	bool differs;
	int status[2];
	size_t i;

	*f = (struct finding){};
	for (i = 0; i < 2; i++)
		world_start(&pair->world[i], p, full_every);
	for (i = 0; i < 2; i++)
		status[i] = world_wait(&pair->world[i]);
	differs = died(&pair->world[0], p, status[0], f) || died(&pair->world[1], p, status[1], f);
	if (differs)
		return true;

	for (i = 0; i < p->nr && !differs; i++) {
		const struct entry *a = &pair->world[0].journal->entry[i];

		differs = step_differs(pair, &p->step[i], i, f);
		tally->outcome[p->step[i].op][outcome_of(a->ret)]++;
		tally->full_looks += a->after.look == LOOK_FULL;
		tally->vma_looks += a->after.look >= LOOK_VMAS;
		tally->vmas += a->after.nr_vmas;
		if (!differs && parted(pair, &p->step[i], i)) {
			tally->parted++;
			i++;
			break;
		}
	}
	tally->programs++;
	tally->steps += i;
	tally->ns += now_ns() - begin;
	return differs;
}
