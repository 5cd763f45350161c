// SPDX-License-Identifier: GPL-2.0
/*
 * The arena of the differential test, and looks at it. A look is taken after each step, under
 * emulation too, so that it must be cheap: nothing is opened, nothing is read that lies outside of
 * the arena, and no text is parsed but in a full look.
 */
#define _GNU_SOURCE
#include "arena.h"

#include "mlock_rs_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ARENA_END	(ARENA_ADDR + ARENA_PAGES * page_size)

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif

#define PAGEMAP_PFN	0x007fffffffffffffULL
#define KPF_UPTODATE_BIT	3
#define KPF_LRU_BIT	5
#define KPF_MMAP_BIT	11
#define KPF_ANON_BIT	12
#define KPF_SWAPBACKED_BIT 14

static struct {
	int maps, smaps, status, pagemap, kpageflags;
	__u64 zero_pfn;
	/* Never touched. */
	char *scratch;
} witness;

static int open_witness(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	must(fd >= 0, path);
	return fd;
}

char *arena_page(unsigned int page)
{
	return (char *)ARENA_ADDR + page * page_size;
}

void arena_reserve(void)
{
	/* Each a file of its own, and without access: nothing merges with that. */
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	void *before = (void *)(ARENA_ADDR - page_size), *after = (void *)ARENA_END;

	must(mmap(before, page_size, PROT_NONE, flags, -1, 0) == before, "guard page");
	must(mmap(after, page_size, PROT_NONE, flags, -1, 0) == after, "guard page");
}

/* The VMA at @addr or after it. */
static bool next_vma(unsigned long addr, struct procmap_query *q)
{
	int ret;

	*q = (struct procmap_query){
		.size = sizeof(*q),
		.query_flags = PROCMAP_QUERY_COVERING_OR_NEXT_VMA,
		.query_addr = addr,
	};
	ret = ioctl(witness.maps, PROCMAP_QUERY, q);
	must(!ret || errno == ENOENT, "PROCMAP_QUERY");
	return !ret;
}

unsigned int vmas_outside(void)
{
	struct procmap_query q;
	unsigned long addr = 0;
	unsigned int nr = 0;

	for (; next_vma(addr, &q); addr = q.vma_end)
		nr += q.vma_end <= ARENA_ADDR || q.vma_start >= ARENA_END;
	return nr;
}

static __u64 pagemap_entry(const void *addr)
{
	__u64 entry = 0;

	must(pread(witness.pagemap, &entry, sizeof(entry),
		   (uintptr_t)addr / page_size * sizeof(entry)) == sizeof(entry), "pagemap");
	return entry;
}

void look_open(void)
{
	struct procmap_query lowest;
	char *zero;

	witness.maps = open_witness("/proc/self/maps");
	must(next_vma(0, &lowest) && lowest.vma_start == ARENA_ADDR - page_size, "lowest VMA");
	witness.smaps = open_witness("/proc/self/smaps");
	witness.status = open_witness("/proc/self/status");
	witness.pagemap = open_witness("/proc/self/pagemap");
	witness.kpageflags = open_witness("/proc/kpageflags");

	zero = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(zero != MAP_FAILED && !madvise(zero, page_size, MADV_POPULATE_READ), "zero page");
	witness.zero_pfn = pagemap_entry(zero) & PAGEMAP_PFN;
	must(witness.zero_pfn, "pagemap shows no page frames");
	munmap(zero, page_size);

	witness.scratch = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			       -1, 0);
	must(witness.scratch != MAP_FAILED, "scratch page");
}

/* The one cheap answer to "is it locked?" that changes nothing. */
static bool is_locked(unsigned long start, unsigned long end)
{
	if (!msync((void *)start, end - start, MS_INVALIDATE))
		return false;
	must(errno == EBUSY, "msync");
	return true;
}

static void look_at_vmas(struct shot *shot, bool with_locks)
{
	unsigned long addr = ARENA_ADDR;
	struct procmap_query q;

	while (next_vma(addr, &q) && q.vma_start < ARENA_END) {
		struct arena_vma *vma = &shot->vma[shot->nr_vmas++];

		*vma = (struct arena_vma){
			.first = (q.vma_start - ARENA_ADDR) / page_size,
			.nr = (q.vma_end - q.vma_start) / page_size,
			.flags = q.vma_flags | (q.inode ? VMA_FILE : 0),
			.offset = q.vma_offset / page_size,
		};
		if (with_locks && is_locked(q.vma_start, q.vma_end))
			vma->flags |= VMA_LOCKED;
		addr = q.vma_end;
	}
}

/* VmFlags. */

static bool has_flag(const char *flags, const char *flag)
{
	/* "VmFlags: rd wr lo ": each flag is two letters and a blank. */
	for (; flags[0] && flags[0] != '\n'; flags += 3)
		if (flags[0] == flag[0] && flags[1] == flag[1])
			return true;
	return false;
}

static void add_vmflags(struct arena_vma *vma, const char *flags)
{
	const char *c;

	vma->vmflags = 2166136261U;
	for (c = flags; *c && *c != '\n'; c++)
		vma->vmflags = (vma->vmflags ^ (__u8)*c) * 16777619U;
	if (has_flag(flags, "lo"))
		vma->flags |= VMA_LOCKED;
	if (has_flag(flags, "lf"))
		vma->flags |= VMA_ONFAULT;
	if (has_flag(flags, "dp"))
		vma->flags |= VMA_DROPPABLE;
}

/* smaps from the start, as far as it takes to have seen @nr_vmas VMAs and the guard before them. */
static void look_at_vmflags(struct shot *shot)
{
	static const char label[] = "VmFlags: ";
	static char text[8192];
	size_t len = 0;
	int vma = -1;

	must(!lseek(witness.smaps, 0, SEEK_SET), "smaps");
	while (vma < shot->nr_vmas) {
		char *line = text, *end;
		ssize_t n = read(witness.smaps, text + len, sizeof(text) - 1 - len);

		must(n > 0, "smaps");
		len += n;
		text[len] = '\0';
		while (vma < shot->nr_vmas && (line = strstr(line, label)) &&
		       (end = strchr(line, '\n'))) {
			if (vma >= 0)
				add_vmflags(&shot->vma[vma], line + strlen(label));
			vma++;
			line = end;
		}
		/* Keep what may be the beginning of a line. */
		end = memrchr(text, '\n', len);
		must(end, "smaps");
		len -= end - text;
		memmove(text, end, len);
	}
}

static unsigned int look_at_vmlck(void)
{
	static char text[4096];
	ssize_t n = pread(witness.status, text, sizeof(text) - 1, 0);
	char *line;

	must(n > 0, "status");
	text[n] = '\0';
	line = strstr(text, "VmLck:");
	must(line, "VmLck");
	return strtoul(line + 6, NULL, 10) / (page_size / 1024);
}

/* The pages. */

static const struct {
	int from;
	__u16 to;
} pagemap_bits[] = {
	{ 63, PAGE_PRESENT }, { 62, PAGE_SWAPPED }, { 61, PAGE_FILE }, { 58, PAGE_GUARD },
	{ 56, PAGE_EXCLUSIVE },
}, kpage_bits[] = {
	{ KPF_MLOCKED_BIT, PAGE_MLOCKED }, { KPF_UNEVICTABLE_BIT, PAGE_UNEVICTABLE },
	{ KPF_ANON_BIT, PAGE_ANON }, { KPF_LRU_BIT, PAGE_LRU }, { KPF_MMAP_BIT, PAGE_MAPPED },
	{ KPF_SWAPBACKED_BIT, PAGE_SWAPBACKED }, { KPF_UPTODATE_BIT, PAGE_UPTODATE },
};

#define NR(array)	(sizeof(array) / sizeof((array)[0]))

static __u16 page_flags(__u64 pfn)
{
	__u64 entry;
	__u16 flags = 0;
	size_t i;

	must(pread(witness.kpageflags, &entry, sizeof(entry), pfn * sizeof(entry)) ==
	     sizeof(entry), "kpageflags");
	for (i = 0; i < NR(kpage_bits); i++)
		if (entry >> kpage_bits[i].from & 1)
			flags |= kpage_bits[i].to;
	return flags;
}

/* How many pages are Mlocked and not Unevictable; one that is mapped twice counts once. */
static __u8 nr_late(const struct shot *shot, const __u64 *entry)
{
	const __u16 both = PAGE_MLOCKED | PAGE_UNEVICTABLE;
	__u8 nr = 0;
	size_t i, j;

	for (i = 0; i < ARENA_PAGES; i++) {
		if ((shot->page[i] & both) != PAGE_MLOCKED)
			continue;
		for (j = 0; j < i && (entry[j] ^ entry[i]) & PAGEMAP_PFN; j++)
			;
		nr += j == i;
	}
	return nr;
}

/* Returns how many of them are late, in a look with their flags. */
static __u8 look_at_pages(struct shot *shot, bool with_flags)
{
	__u64 entry[ARENA_PAGES];
	size_t i, bit;

	must(pread(witness.pagemap, entry, sizeof(entry),
		   ARENA_ADDR / page_size * sizeof(entry[0])) == sizeof(entry), "pagemap");
	for (i = 0; i < ARENA_PAGES; i++) {
		__u64 pfn = entry[i] & PAGEMAP_PFN;
		__u16 page = 0;

		shot->page[i] = 0;
		if (!entry[i])
			continue;
		for (bit = 0; bit < NR(pagemap_bits); bit++)
			if (entry[i] >> pagemap_bits[bit].from & 1)
				page |= pagemap_bits[bit].to;
		if (page & PAGE_PRESENT && pfn == witness.zero_pfn)
			page |= PAGE_ZERO;
		else if (page & PAGE_PRESENT && with_flags)
			page |= page_flags(pfn);
		shot->page[i] = page;
	}
	return nr_late(shot, entry);
}

/*
 * Moves the pages that this CPU batches to their LRU list: mlock(2) does so itself, and a module
 * cannot. MADV_COLD begins with it, and there is nothing on the scratch page to become cold.
 */
static void drain_this_cpu(void)
{
	must(!madvise(witness.scratch, page_size, MADV_COLD), "MADV_COLD");
}

void look_at_arena(struct shot *shot, enum look look)
{
	shot->look = look;
	shot->nr_vmas = 0;
	shot->vmlck = 0;
	shot->late = 0;
	if (look >= LOOK_VMAS)
		look_at_vmas(shot, look == LOOK_VMAS);
	/* First of all: to look may drain. */
	shot->late = look_at_pages(shot, look == LOOK_FULL);
	if (look == LOOK_FULL) {
		drain_this_cpu();
		look_at_vmflags(shot);
		shot->vmlck = look_at_vmlck();
		look_at_pages(shot, true);
	}
}

const struct arena_vma *vma_of(const struct shot *shot, unsigned int page)
{
	size_t i;

	for (i = 0; i < shot->nr_vmas; i++)
		if (page >= shot->vma[i].first && page < shot->vma[i].first + shot->vma[i].nr)
			return &shot->vma[i];
	return NULL;
}

/* Two shots. */

static const char *vma_text(const struct shot *shot, size_t i)
{
	static char text[2][64];
	static unsigned int next;
	char *t = text[next++ % 2];

	if (i >= shot->nr_vmas) {
		snprintf(t, sizeof(text[0]), "nothing");
	} else {
		const struct arena_vma *v = &shot->vma[i];

		snprintf(t, sizeof(text[0]), "%u+%u %c%c%c%c%s%s%s @%u [%08x]", v->first, v->nr,
			 v->flags & VMA_R ? 'r' : '-', v->flags & VMA_W ? 'w' : '-',
			 v->flags & VMA_X ? 'x' : '-', v->flags & VMA_SHARED ? 's' : 'p',
			 v->flags & VMA_FILE ? " file" : "", v->flags & VMA_LOCKED ? " lo" : "",
			 v->flags & VMA_ONFAULT ? " lf" : "", v->offset, v->vmflags);
	}
	return t;
}

static void say(char *text, size_t size, const char *what, const char *a, const char *b)
{
	if (text)
		snprintf(text, size, "%s: %s | %s", what, a, b);
}

static void say_page(char *text, size_t size, size_t page, __u16 a, __u16 b)
{
	if (text)
		snprintf(text, size, "page %zu: %#x | %#x", page, a, b);
}

bool is_count_lost(__u16 a, __u16 b)
{
	return a & b & PAGE_FILE && (a ^ b) == (PAGE_MLOCKED | PAGE_UNEVICTABLE);
}

/* Each VMA of one against that of the other. */
static enum difference_kind compare_vmas(const struct shot *a, const struct shot *b, bool full,
					 char *text, size_t size)
{
	const __u8 flags = full ? 0xff : (__u8)~(VMA_ONFAULT | VMA_DROPPABLE);
	const __u8 locks = VMA_LOCKED | VMA_ONFAULT;
	size_t i;

	for (i = 0; i < a->nr_vmas || i < b->nr_vmas; i++) {
		const struct arena_vma *va = &a->vma[i], *vb = &b->vma[i];
		bool both = i < a->nr_vmas && i < b->nr_vmas;

		if (both && va->first == vb->first && va->nr == vb->nr &&
		    (va->flags ^ vb->flags) & flags & locks) {
			say(text, size, "lock flags", vma_text(a, i), vma_text(b, i));
			return DIFFERENT_LOCKS;
		}
		if (!both || va->first != vb->first || va->nr != vb->nr ||
		    va->offset != vb->offset || (va->flags ^ vb->flags) & flags ||
		    (full && va->vmflags != vb->vmflags)) {
			say(text, size, "VMAs", vma_text(a, i), vma_text(b, i));
			return DIFFERENT_VMAS;
		}
	}
	return SAME;
}

/* What is mapped at each page, and how, wherever the VMAs begin and end. */
static enum difference_kind compare_mappings(const struct shot *a, const struct shot *b, bool full,
					     char *text, size_t size)
{
	unsigned int page;

	for (page = 0; page < ARENA_PAGES; page++) {
		const struct arena_vma *va = vma_of(a, page), *vb = vma_of(b, page);

		if (!va && !vb)
			continue;
		if (va && vb && va->flags == vb->flags &&
		    (!(va->flags & VMA_FILE) ||
		     va->offset + page - va->first == vb->offset + page - vb->first) &&
		    (!full || va->vmflags == vb->vmflags))
			continue;
		say(text, size, "VMAs", vma_text(a, va ? va - a->vma : a->nr_vmas),
		    vma_text(b, vb ? vb - b->vma : b->nr_vmas));
		return va && vb && (va->flags ^ vb->flags) & (VMA_LOCKED | VMA_ONFAULT) ?
			       DIFFERENT_LOCKS : DIFFERENT_VMAS;
	}
	return SAME;
}

static enum difference_kind compare_pages(const struct shot *a, const struct shot *b, bool full,
					  char *text, size_t size)
{
	const __u16 residency = 0xff;
	size_t i;

	if (full && a->vmlck != b->vmlck) {
		if (text)
			snprintf(text, size, "VmLck in pages: %u | %u", a->vmlck, b->vmlck);
		return DIFFERENT_VMLCK;
	}
	for (i = 0; i < ARENA_PAGES; i++)
		if ((a->page[i] ^ b->page[i]) & residency) {
			say_page(text, size, i, a->page[i], b->page[i]);
			return DIFFERENT_RESIDENCY;
		}
	for (i = 0; full && i < ARENA_PAGES; i++)
		if (a->page[i] != b->page[i] && !is_count_lost(a->page[i], b->page[i])) {
			say_page(text, size, i, a->page[i], b->page[i]);
			return DIFFERENT_PAGE_FLAGS;
		}
	return SAME;
}

static bool both_look(const struct shot *a, const struct shot *b, enum look look)
{
	return a->look >= look && b->look >= look;
}

enum difference_kind shot_compare(const struct shot *a, const struct shot *b, char *text,
				  size_t size)
{
	const bool full = both_look(a, b, LOOK_FULL);
	enum difference_kind vmas = SAME;

	if (both_look(a, b, LOOK_VMAS))
		vmas = compare_vmas(a, b, full, text, size);
	return vmas ? vmas : compare_pages(a, b, full, text, size);
}

enum difference_kind shot_compare_mappings(const struct shot *a, const struct shot *b, char *text,
					   size_t size)
{
	const bool full = both_look(a, b, LOOK_FULL);
	enum difference_kind vmas = SAME;

	if (both_look(a, b, LOOK_VMAS))
		vmas = compare_mappings(a, b, full, text, size);
	return vmas ? vmas : compare_pages(a, b, full, text, size);
}

bool same_boundaries(const struct shot *a, const struct shot *b)
{
	size_t i;

	for (i = 0; i < a->nr_vmas && i < b->nr_vmas; i++)
		if (a->vma[i].first != b->vma[i].first || a->vma[i].nr != b->vma[i].nr)
			return false;
	return a->nr_vmas == b->nr_vmas;
}
