// SPDX-License-Identifier: GPL-2.0
/*
 * What the tests and the demo share: to call LOCK, and to ask the kernel's other witnesses (status,
 * smaps, pagemap, kpageflags) what became of the memory.
 *
 * Nothing here allocates: a look at the address space must not change it.
 */
#define _GNU_SOURCE
#include "mlock_rs_test.h"
#include "kselftest.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PAGEMAP_PRESENT		0x8000000000000000ULL
#define PAGEMAP_SWAP		0x4000000000000000ULL
#define PAGEMAP_PFN		0x007fffffffffffffULL
#define MAX_STATES		4096
/* So many entries of pagemap or kpageflags are on the stack at a time. */
#define AT_ONCE			512UL

size_t page_size;

static __attribute__((constructor(101))) void init_page_size(void)
{
	page_size = sysconf(_SC_PAGESIZE);
}

int mlock_rs_open(void)
{
	int fd = open(MLOCK_RS_DEVICE, O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int mlock_rs(int fd, const void *addr, size_t len, struct mlock_rs_lock *res)
{
	return mlock_rs_flags(fd, addr, len, 0, res);
}

/* In what follows the kernel has to overwrite each -1, so that a zero is an answer. */
int mlock_rs_call(int fd, struct mlock_rs_lock *arg)
{
	arg->locked = -1;
	arg->populated = -1;
	arg->fail_addr = -1;
	arg->nr_vmas = -1;
	arg->error = -1;
	arg->nr_helpers = -1;
	arg->nr_gaps = -1;
	return ioctl(fd, MLOCK_RS_LOCK, arg) ? -errno : 0;
}

int mlock_rs_flags(int fd, const void *addr, size_t len, __u32 flags, struct mlock_rs_lock *res)
{
	struct mlock_rs_lock arg = { .addr = (uintptr_t)addr, .len = len, .flags = flags };
	int ret = mlock_rs_call(fd, &arg);

	if (res)
		*res = arg;
	return ret;
}

int mlock_rs_unlock(int fd, const void *addr, size_t len, struct mlock_rs_unlock *res)
{
	struct mlock_rs_unlock arg = {
		.addr = (uintptr_t)addr,
		.len = len,
		.unlocked = -1,
		.fail_addr = -1,
		.nr_vmas = -1,
		.error = -1,
	};
	int ret = ioctl(fd, MLOCK_RS_UNLOCK, &arg) ? -errno : 0;

	if (res)
		*res = arg;
	return ret;
}

int mlock_rs_lockv_call(int fd, struct mlock_rs_lockv *arg)
{
	arg->locked = -1;
	arg->populated = -1;
	arg->fail_addr = -1;
	arg->nr_vmas = -1;
	arg->error = -1;
	arg->nr_helpers = -1;
	arg->nr_gaps = -1;
	return ioctl(fd, MLOCK_RS_LOCKV, arg) ? -errno : 0;
}

int mlock_rs_parts(int fd, struct mlock_rs_lock *arg, size_t left_out)
{
	const __u64 page = arg->addr + left_out * page_size;
	const struct mlock_rs_range ranges[] = {
		{ page + page_size, arg->addr + arg->len - page - page_size },
		{ arg->addr, page - arg->addr },
	};
	struct mlock_rs_lockv v = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = ARRAY_SIZE(ranges),
		.flags = arg->flags,
		.nr_workers = arg->nr_workers,
		.slice_us = arg->slice_us,
	};
	int ret;

	if (!left_out)
		return mlock_rs_call(fd, arg);
	ret = mlock_rs_lockv_call(fd, &v);
	arg->locked = v.locked;
	arg->populated = v.populated;
	arg->fail_addr = v.fail_addr;
	arg->nr_vmas = v.nr_vmas;
	arg->error = v.error;
	arg->nr_helpers = v.nr_helpers;
	arg->nr_gaps = v.nr_gaps;
	return ret;
}

int mlock_rs_lockv(int fd, const struct mlock_rs_range *ranges, size_t nr, __u32 flags,
		   struct mlock_rs_lockv *res)
{
	struct mlock_rs_lockv arg = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr,
		.flags = flags,
	};
	int ret = mlock_rs_lockv_call(fd, &arg);

	if (res)
		*res = arg;
	return ret;
}

int mlock_rs_unlockv(int fd, const struct mlock_rs_range *ranges, size_t nr,
		     struct mlock_rs_unlockv *res)
{
	struct mlock_rs_unlockv arg = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr,
		.unlocked = -1,
		.fail_addr = -1,
		.nr_vmas = -1,
		.error = -1,
	};
	int ret = ioctl(fd, MLOCK_RS_UNLOCKV, &arg) ? -errno : 0;

	if (res)
		*res = arg;
	return ret;
}

int mlock_rs_query(int fd, const void *addr, size_t len, struct mlock_rs_query *res)
{
	struct mlock_rs_query arg = {
		.addr = (uintptr_t)addr,
		.len = len,
		.mapped = -1,
		.locked = -1,
		.onfault = -1,
		.resident = -1,
		.nr_vmas = -1,
		.state = -1,
		.error = -1,
		.__reserved_out = -1,
	};
	int ret = ioctl(fd, MLOCK_RS_QUERY, &arg) ? -errno : 0;

	if (res)
		*res = arg;
	return ret;
}

int mlock_rs_progress(int fd, struct mlock_rs_progress *res)
{
	*res = (struct mlock_rs_progress) {
		.wanted = -1,
		.populated = -1,
		.nr_calls = -1,
		.__reserved_out = -1,
	};
	return ioctl(fd, MLOCK_RS_PROGRESS, res) ? -errno : 0;
}

bool mlock_rs_has(int fd, __u64 features)
{
	struct mlock_rs_abi abi;

	return !ioctl(fd, MLOCK_RS_ABI, &abi) && (abi.features & features) == features;
}

int mlock_2(const void *addr, size_t len)
{
	return syscall(SYS_mlock, addr, len) ? -errno : 0;
}

int mlock_onfault(const void *addr, size_t len)
{
	return syscall(SYS_mlock2, addr, len, MLOCK_ONFAULT) ? -errno : 0;
}

/* A file of /proc, line by line, without the heap. */
struct lines {
	int fd;
	size_t pos, end;
	char buf[16384];
};

static bool lines_open(struct lines *l, const char *path)
{
	l->fd = open(path, O_RDONLY | O_CLOEXEC);
	l->pos = 0;
	l->end = 0;
	return l->fd >= 0;
}

static char *lines_next(struct lines *l)
{
	for (;;) {
		char *line = l->buf + l->pos;
		char *nl = memchr(line, '\n', l->end - l->pos);
		ssize_t n;

		if (nl) {
			*nl = '\0';
			l->pos = nl + 1 - l->buf;
			return line;
		}
		memmove(l->buf, line, l->end - l->pos);
		l->end -= l->pos;
		l->pos = 0;
		n = read(l->fd, l->buf + l->end, sizeof(l->buf) - l->end);
		if (n <= 0) {
			close(l->fd);
			return NULL;
		}
		l->end += n;
	}
}

void must(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

long read_field(const char *path, const char *field)
{
	static struct lines l;
	const size_t len = strlen(field);
	long number = -1;
	char *line;

	if (!lines_open(&l, path))
		return -1;
	while ((line = lines_next(&l)))
		if (number < 0 && !strncmp(line, field, len))
			number = strtol(line + len, NULL, 10);
	return number;
}

size_t vmlck(void)
{
	long kb = read_field("/proc/self/status", "VmLck:");

	must(kb >= 0, "VmLck");
	return kb * 1024;
}

/* What one look at smaps is for; NULL where the caller does not care. */
struct smaps_visitor {
	void (*vma)(struct smaps_visitor *v, const struct vma_shot *vma);
	const char *field;
	unsigned long start, end;
	size_t field_bytes;
	struct snapshot *snapshot;
	char *state;
};

static void walk_smaps(struct smaps_visitor *v)
{
	static struct lines l;
	struct vma_shot vma = {};
	char *line;

	must(lines_open(&l, "/proc/self/smaps"), "/proc/self/smaps");
	while ((line = lines_next(&l))) {
		size_t len = v->field ? strlen(v->field) : 0;
		unsigned long start, end;

		/* "Anonymous:" begins with a hexadecimal digit, too. */
		if (sscanf(line, "%lx-%lx %4s", &start, &end, vma.perms) == 3) {
			vma.start = start;
			vma.end = end;
			continue;
		}
		if (len && !strncmp(line, v->field, len)) {
			if (vma.start >= v->start && vma.end <= v->end)
				v->field_bytes += strtoul(line + len, NULL, 10) * 1024;
		} else if (!strncmp(line, "VmFlags:", 8)) {
			vma.lock = 'u';
			if (strstr(line, " lo"))
				vma.lock = strstr(line, " lf") ? 'f' : 'l';
			if (v->vma)
				v->vma(v, &vma);
		}
	}
}

/*
 * Entries of pagemap or kpageflags, of 8 bytes for each page, in as few calls as it takes: the
 * checkers of the debug kernel make each one dear. An entry that is not to be had is 0.
 */
static void read_entries(int fd, __u64 index, __u64 *entry, size_t nr)
{
	char *to = (char *)entry;
	const size_t size = nr * sizeof(*entry);
	size_t done = 0;
	ssize_t got;

	while (done < size) {
		got = pread(fd, to + done, size - done, index * sizeof(*entry) + done);
		if (got <= 0)
			break;
		done += got;
	}
	memset(to + done, 0, size - done);
}

static size_t at_once(size_t nr)
{
	return nr < AT_ONCE ? nr : AT_ONCE;
}

static int open_or_stop(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	must(fd >= 0, path);
	return fd;
}

static char *next_buffer(void)
{
	static char buffers[8][MAX_STATES + 1];
	static unsigned int next;

	return buffers[next++ % 8];
}

/* What is in the page table gets a capital letter. */
static void mark_present(char *state, const void *addr, size_t nr_pages)
{
	int pagemap = open_or_stop("/proc/self/pagemap");
	__u64 entry[AT_ONCE];
	size_t i, nr;

	for (; nr_pages; nr_pages -= nr, state += nr, addr += nr * page_size) {
		nr = at_once(nr_pages);
		read_entries(pagemap, (uintptr_t)addr / page_size, entry, nr);
		for (i = 0; i < nr; i++)
			if (entry[i] & PAGEMAP_PRESENT)
				state[i] += 'A' - 'a';
	}
	close(pagemap);
}

const char *all(char state, size_t nr_pages)
{
	char *s = next_buffer();

	must(nr_pages <= MAX_STATES, "too many pages");
	memset(s, state, nr_pages);
	s[nr_pages] = '\0';
	return s;
}

size_t count(const char *s, char state)
{
	size_t n = 0;

	for (; *s; s++)
		n += *s == state;
	return n;
}

void page_frames(const void *addr, size_t nr_pages, __u64 *frame)
{
	int pagemap = open_or_stop("/proc/self/pagemap");
	size_t i;

	read_entries(pagemap, (uintptr_t)addr / page_size, frame, nr_pages);
	for (i = 0; i < nr_pages; i++)
		frame[i] = frame[i] & PAGEMAP_PRESENT ? frame[i] & PAGEMAP_PFN : 0;
	close(pagemap);
}

__u64 page_frame(const void *addr)
{
	__u64 frame;

	page_frames(addr, 1, &frame);
	return frame;
}

/* How many of the entries have one of @bits. */
static size_t count_bits(const __u64 *entry, size_t nr, __u64 bits)
{
	size_t i, n = 0;

	for (i = 0; i < nr; i++)
		n += !!(entry[i] & bits);
	return n;
}

size_t count_kpageflag(const void *addr, size_t nr_pages, unsigned int kpf)
{
	int kpageflags = open_or_stop("/proc/kpageflags");
	__u64 frame[AT_ONCE], flags[AT_ONCE];
	size_t i, run, nr, n = 0;

	for (; nr_pages; nr_pages -= nr, addr += nr * page_size) {
		nr = at_once(nr_pages);
		page_frames(addr, nr, frame);
		for (i = 0; i < nr; i += run) {
			/* Page frames in a row are one look. */
			for (run = 1; i + run < nr && frame[i + run] == frame[i] + run;)
				run++;
			if (!frame[i])
				continue;
			read_entries(kpageflags, frame[i], flags, run);
			n += count_bits(flags, run, 1ULL << kpf);
		}
	}
	close(kpageflags);
	return n;
}

/* Number of pages of the range whose entry in pagemap has one of @bits. */
static size_t count_entries(const void *addr, size_t nr_pages, __u64 bits)
{
	int pagemap = open_or_stop("/proc/self/pagemap");
	__u64 entry[AT_ONCE];
	size_t nr, n = 0;

	for (; nr_pages; nr_pages -= nr, addr += nr * page_size) {
		nr = at_once(nr_pages);
		read_entries(pagemap, (uintptr_t)addr / page_size, entry, nr);
		n += count_bits(entry, nr, bits);
	}
	close(pagemap);
	return n;
}

size_t resident_pages(const void *addr, size_t nr_pages)
{
	return count_entries(addr, nr_pages, PAGEMAP_PRESENT);
}

size_t swapped_pages(const void *addr, size_t nr_pages)
{
	return count_entries(addr, nr_pages, PAGEMAP_SWAP);
}

size_t smaps_bytes(const void *addr, size_t len, const char *field)
{
	struct smaps_visitor v = {
		.field = field,
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + len,
	};

	walk_smaps(&v);
	return v.field_bytes;
}

void drain_lru(void)
{
	/*
	 * It starts with lru_add_drain_all(), and what is mapped stays. So does compaction, which
	 * moves pages: a large folio of a file that it has moved is not counted as mlocked before
	 * reclaim meets it.
	 */
	write_number("/proc/sys/vm/drop_caches", 1);
}

long mlocked_kb(void)
{
	drain_lru();
	/* The counters of the CPUs go into the sum, which is what meminfo shows. */
	write_number("/proc/sys/vm/stat_refresh", 1);
	return read_field("/proc/meminfo", "Mlocked:");
}

static void fill_snapshot(struct smaps_visitor *v, const struct vma_shot *vma)
{
	struct snapshot *s = v->snapshot;

	must(s->nr_vmas < ARRAY_SIZE(s->vma), "too many VMAs for a snapshot");
	s->vma[s->nr_vmas++] = *vma;
}

void take_snapshot(struct snapshot *s)
{
	struct smaps_visitor v = { .vma = fill_snapshot, .snapshot = s };

	s->nr_vmas = 0;
	walk_smaps(&v);
	s->vmlck = vmlck();
}

/* The pages of the range in the one VMA. */
static void fill_state(struct smaps_visitor *v, const struct vma_shot *vma)
{
	unsigned long start = vma->start > v->start ? vma->start : v->start;
	unsigned long end = vma->end < v->end ? vma->end : v->end;

	if (start < end)
		memset(v->state + (start - v->start) / page_size, vma->lock,
		       (end - start) / page_size);
}

static struct smaps_visitor new_states(const void *addr, size_t nr_pages)
{
	struct smaps_visitor v = {
		.vma = fill_state,
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + nr_pages * page_size,
		.state = next_buffer(),
	};

	must(nr_pages <= MAX_STATES, "too many pages");
	memset(v.state, '.', nr_pages);
	v.state[nr_pages] = '\0';
	return v;
}

const char *states(const void *addr, size_t nr_pages)
{
	struct smaps_visitor v = new_states(addr, nr_pages);

	walk_smaps(&v);
	mark_present(v.state, addr, nr_pages);
	return v.state;
}

const char *states_in(const struct snapshot *s, const void *addr, size_t nr_pages)
{
	struct smaps_visitor v = new_states(addr, nr_pages);
	size_t i;

	for (i = 0; i < s->nr_vmas; i++)
		fill_state(&v, &s->vma[i]);
	mark_present(v.state, addr, nr_pages);
	return v.state;
}

static const char *describe(const char *what, const struct vma_shot *before,
			    const struct vma_shot *now)
{
	static char text[160];

	snprintf(text, sizeof(text), "%s: %lx-%lx %s %c, was %lx-%lx %s %c", what, now->start,
		 now->end, now->perms, now->lock, before->start, before->end, before->perms,
		 before->lock);
	return text;
}

const char *snapshot_diff(const struct snapshot *before, const struct snapshot *now)
{
	size_t i;

	for (i = 0; i < before->nr_vmas && i < now->nr_vmas; i++) {
		const struct vma_shot *b = &before->vma[i], *n = &now->vma[i];

		if (b->start != n->start || b->end != n->end || b->lock != n->lock ||
		    strcmp(b->perms, n->perms))
			return describe("VMA changed", b, n);
	}
	if (before->nr_vmas != now->nr_vmas)
		return "number of VMAs changed";
	return before->vmlck == now->vmlck ? "" : "VmLck changed";
}

const char *lock_diff(const struct snapshot *before, const struct snapshot *now)
{
	unsigned long at = 0;
	size_t b = 0, n = 0;

	/* Walk both lists together, up to the nearest end of a VMA each time. */
	while (b < before->nr_vmas && n < now->nr_vmas) {
		const struct vma_shot *vb = &before->vma[b], *vn = &now->vma[n];
		unsigned long sb = at > vb->start ? at : vb->start;
		unsigned long sn = at > vn->start ? at : vn->start;

		if (sb != sn || vb->lock != vn->lock)
			return describe("lock flags changed", vb, vn);
		at = vb->end < vn->end ? vb->end : vn->end;
		b += vb->end == at;
		n += vn->end == at;
	}
	if (b != before->nr_vmas || n != now->nr_vmas)
		return "mappings changed";
	return before->vmlck == now->vmlck ? "" : "VmLck changed";
}

size_t locked_bytes(const struct snapshot *s)
{
	size_t i, bytes = 0;

	for (i = 0; i < s->nr_vmas; i++)
		if (s->vma[i].lock != 'u')
			bytes += s->vma[i].end - s->vma[i].start;
	return bytes;
}

char *map_region(size_t nr_pages)
{
	char *guard = mmap(NULL, (nr_pages + 2) * page_size, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *region;

	must(guard != MAP_FAILED, "mmap");
	region = mmap(guard + page_size, nr_pages * page_size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	must(region != MAP_FAILED, "mmap");
	no_huge_pages(region, nr_pages * page_size);
	return region;
}

char *map_region_across(size_t nr_pages)
{
	const size_t half = nr_pages / 2 * page_size, len = (nr_pages + 2) * page_size;
	char *room = mmap(NULL, len + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *boundary, *region;

	must(room != MAP_FAILED, "mmap");
	boundary = room + page_size + half;
	boundary += -(uintptr_t)boundary & (HUGE_SIZE - 1);
	region = boundary - half;
	/* As if it had been mapped alone, with a page on both sides. */
	if (region - page_size > room)
		munmap(room, region - page_size - room);
	munmap(region - page_size + len, room + HUGE_SIZE - (region - page_size));
	must(mmap(region, nr_pages * page_size, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == region, "mmap");
	no_huge_pages(region, nr_pages * page_size);
	return region;
}

void unmap_region(char *region, size_t nr_pages)
{
	munmap(region - page_size, (nr_pages + 2) * page_size);
}

void no_huge_pages(void *addr, size_t len)
{
	/* Fails where the kernel has no huge pages, and then there is nothing to switch off. */
	madvise(addr, len, MADV_NOHUGEPAGE);
}

int allow_more_vmas(int spare)
{
	static struct snapshot now;
	size_t nr, i;

	take_snapshot(&now);
	/* The vsyscall page is shown, but is in no mm. */
	for (i = nr = 0; i < now.nr_vmas; i++)
		nr += now.vma[i].start < ~0UL / 2;
	return write_number(MAX_MAP_COUNT_PATH, nr + spare);
}

static bool has_checkers;

/* At the start: a test may give the right to look into debugfs away. */
static __attribute__((constructor)) void look_for_checkers(void)
{
	has_checkers = !access("/proc/lockdep", F_OK) || !access("/sys/kernel/debug/kcsan", F_OK);
}

bool is_debug_kernel(void)
{
	return has_checkers;
}

int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

int write_number(const char *path, long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld\n", value);
	return write_text(path, text);
}

long read_number(const char *path)
{
	char text[32] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? strtol(text, NULL, 10) : -EIO;
}

char page_byte(size_t page)
{
	return 'A' + page % 26;
}

int write_cold(int fd, size_t nr_pages)
{
	char page[page_size];
	size_t i;

	for (i = 0; i < nr_pages; i++) {
		memset(page, page_byte(i), sizeof(page));
		if (pwrite(fd, page, sizeof(page), i * page_size) != (ssize_t)sizeof(page))
			return -EIO;
	}
	if (fsync(fd))
		return -errno;
	return -posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

__u64 seed(void)
{
	const char *text = getenv("SEED");
	__u64 seed = 0;

	if (text && *text)
		return strtoull(text, NULL, 0);
	must(getrandom(&seed, sizeof(seed), 0) == sizeof(seed), "getrandom");
	/* Short enough to be typed in again. */
	return seed % 1000000000;
}

/* splitmix64: good with any seed, and the state is one number. */
__u64 random_number(__u64 *state)
{
	__u64 z = (*state += 0x9e3779b97f4a7c15ULL);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

__u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ULL + now.tv_nsec;
}

int drop_privileges(__u64 keep)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = {
		{ .effective = keep, .permitted = keep },
		{ .effective = keep >> 32, .permitted = keep >> 32 },
	};

	if (prctl(PR_SET_KEEPCAPS, 1) || setgroups(0, NULL) || setresgid(65534, 65534, 65534) ||
	    setresuid(65534, 65534, 65534) || syscall(SYS_capset, &header, caps))
		return -errno;
	/* A change of credentials hands /proc/self over to root: take it back. */
	return prctl(PR_SET_DUMPABLE, 1) ? -errno : 0;
}
