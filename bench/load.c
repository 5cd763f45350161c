// SPDX-License-Identifier: GPL-2.0
/*
 * The kinds of memory that the benchmark locks.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "kselftest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define CACHE_LINE	((size_t)64)

static void map_plain(struct memory *m)
{
	m->addr = mmap(NULL, m->len, m->prot, m->flags, m->fd, 0);
	if (m->addr == MAP_FAILED)
		bench_die("mmap", errno);
}

/* Every second part gets another flag, so that the parts do not merge. */
static void cut(const struct bench *b, struct memory *m)
{
	size_t stripe = m->len / page_size / b->nr * page_size, i;

	if (!stripe)
		bench_skip(b, "a VMA is less than a page");
	for (i = 1; i < b->nr; i += 2)
		if (madvise(m->addr + i * stripe, stripe, MADV_DONTDUMP))
			bench_die("MADV_DONTDUMP", errno);
}

static void map_anon(const struct bench *b, struct memory *m)
{
	map_plain(m);
	cut(b, m);
}

/* All of it is there, as after a program has used it for a while. */
static void map_resident(const struct bench *b, struct memory *m)
{
	map_anon(b, m);
	memory_touch(m, m->addr, m->len);
}

/* All of it is locked already. */
static void map_locked(const struct bench *b, struct memory *m)
{
	map_anon(b, m);
	if (mlock(m->addr, m->len))
		bench_die("mlock", errno);
}

static void map_thp(const struct bench *b, struct memory *m)
{
	size_t head;
	char *wide;

	wide = mmap(NULL, m->len + HUGE_SIZE, m->prot, m->flags, -1, 0);
	if (wide == MAP_FAILED)
		bench_die("mmap", errno);
	head = -(uintptr_t)wide % HUGE_SIZE;
	if (head)
		munmap(wide, head);
	munmap(wide + head + m->len, HUGE_SIZE - head);
	m->addr = wide + head;
	if (madvise(m->addr, m->len, MADV_HUGEPAGE))
		bench_skip(b, "the kernel has no huge pages");
	cut(b, m);
}

static void map_shared(const struct bench *b, struct memory *m)
{
	m->flags = MAP_SHARED | MAP_ANONYMOUS;
	map_anon(b, m);
}

static void open_file(const struct bench *b, struct memory *m)
{
	struct stat st;

	if (!b->file)
		bench_skip(b, "there is no --file");
	m->fd = open(b->file, O_RDONLY | O_CLOEXEC);
	if (m->fd < 0 || fstat(m->fd, &st))
		bench_die(b->file, errno);
	if ((size_t)st.st_size < m->len)
		bench_die(b->file, ENODATA);
	m->prot = PROT_READ;
	m->flags = MAP_PRIVATE;
}

static void map_file_warm(const struct bench *b, struct memory *m)
{
	static char buf[1 << 16];
	size_t at;

	open_file(b, m);
	/* How large the folios are depends on who has read the file: always the same. */
	posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED);
	for (at = 0; at < m->len; at += sizeof(buf))
		if (pread(m->fd, buf, sizeof(buf), at) < 0)
			bench_die(b->file, errno);
	map_anon(b, m);
}

static void map_file_cold(const struct bench *b, struct memory *m)
{
	open_file(b, m);
	posix_fadvise(m->fd, 0, 0, POSIX_FADV_DONTNEED);
	write_number("/proc/sys/vm/drop_caches", 1);
	map_anon(b, m);
}

/* Half of the memory, in so many ranges of whole units with as much between them. */
static void choose_ranges(const struct bench *b, struct memory *m, size_t unit)
{
	size_t stride = m->len / b->nr, half = stride / 2 / unit * unit, i;

	if (!half)
		bench_skip(b, "a range is less than a page or a line");
	m->nr_ranges = b->nr;
	m->ranges = calloc(b->nr, sizeof(*m->ranges));
	if (!m->ranges)
		bench_die("ranges", ENOMEM);
	for (i = 0; i < b->nr; i++) {
		m->ranges[i].addr = (uintptr_t)m->addr + i * stride / unit * unit;
		m->ranges[i].len = half;
	}
}

static void map_ranges(const struct bench *b, struct memory *m)
{
	map_plain(m);
	choose_ranges(b, m, page_size);
}

/* As by a program that locks its buffers when it has filled them. */
static void map_ranges_resident(const struct bench *b, struct memory *m)
{
	map_ranges(b, m);
	memory_touch(m, m->addr, m->len);
}

/* As by a library that locks what its callers may have locked before. */
static void map_ranges_locked(const struct bench *b, struct memory *m)
{
	size_t i;

	map_ranges(b, m);
	for (i = 0; i < m->nr_ranges; i++)
		if (mlock((void *)(uintptr_t)m->ranges[i].addr, m->ranges[i].len))
			bench_die("mlock", errno);
}

/* As by a program with many small secrets in its heap: several of them share a page. */
static void map_ranges_near(const struct bench *b, struct memory *m)
{
	map_plain(m);
	choose_ranges(b, m, CACHE_LINE);
	m->every_page = true;
}

static void map_ranges_near_resident(const struct bench *b, struct memory *m)
{
	map_ranges_near(b, m);
	memory_touch(m, m->addr, m->len);
}

static const struct load loads[] = {
	{ "anon", true, map_anon },
	{ "resident", false, map_resident },
	{ "locked", false, map_locked },
	{ "thp", false, map_thp },
	{ "shared", true, map_shared },
	{ "file-warm", true, map_file_warm },
	{ "file-cold", true, map_file_cold },
	{ "ranges", false, map_ranges },
	{ "ranges-resident", false, map_ranges_resident },
	{ "ranges-locked", false, map_ranges_locked },
	{ "ranges-near", false, map_ranges_near },
	{ "ranges-near-resident", false, map_ranges_near_resident },
};

const struct load *find_load(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(loads); i++)
		if (!strcmp(loads[i].name, name))
			return &loads[i];
	return NULL;
}

const char *load_name(size_t i)
{
	return i < ARRAY_SIZE(loads) ? loads[i].name : NULL;
}

void memory_map(const struct bench *b, struct memory *m)
{
	*m = (struct memory) {
		.len = b->len,
		.prot = PROT_READ | PROT_WRITE,
		.flags = MAP_PRIVATE | MAP_ANONYMOUS,
		.fd = -1,
	};
	b->load->map(b, m);
	if (m->ranges)
		return;
	m->all.addr = (uintptr_t)m->addr;
	m->all.len = m->len;
	m->ranges = &m->all;
	m->nr_ranges = 1;
}

void memory_unmap(struct memory *m)
{
	munmap(m->addr, m->len);
	if (m->fd >= 0)
		close(m->fd);
	if (m->ranges != &m->all)
		free(m->ranges);
}

void memory_touch(const struct memory *m, char *addr, size_t len)
{
	char *p;

	/* In a way that the compiler leaves where it is. */
	for (p = addr; p < addr + len; p += page_size) {
		if (m->prot & PROT_WRITE)
			__atomic_store_n(p, 1, __ATOMIC_RELAXED);
		else
			__atomic_load_n(p, __ATOMIC_RELAXED);
	}
}

size_t memory_locked_bytes(const struct memory *m)
{
	size_t bytes = 0, i;

	if (m->every_page)
		return m->len;
	for (i = 0; i < m->nr_ranges; i++)
		bytes += m->ranges[i].len;
	return bytes;
}

void memory_check(const struct bench *b, const struct memory *m)
{
	size_t want = memory_locked_bytes(m), locked = vmlck(), resident = 0, i;

	if (m->every_page)
		resident = resident_pages(m->addr, m->len / page_size);
	for (i = 0; i < m->nr_ranges && !m->every_page; i++)
		resident += resident_pages((void *)(uintptr_t)m->ranges[i].addr,
					   m->ranges[i].len / page_size);
	if (locked < want || resident * page_size != want) {
		result_begin(b);
		result_number("locked_bytes", locked);
		result_number("resident_bytes", resident * page_size);
		result_end();
		bench_die("this is not locked and resident", ENODATA);
	}
}
