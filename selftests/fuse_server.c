// SPDX-License-Identifier: GPL-2.0
/*
 * The FUSE protocol as far as a file system needs it that is one file. The file is the root of the
 * mount, so that there is no directory to look it up in.
 */
#define _GNU_SOURCE
#include "fuse_server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define MAX_HELD	64
#define MAX_READ	1048576

struct held_read {
	__u64 unique;
	__u64 offset;
	__u32 size;
};

/* Shared by the two processes. */
struct fuse_server {
	struct fuse_options options;
	char path[64];
	pid_t pid;
	/*
	 * The test signals @release (for @answer_page, or for all) and @invalidate, the server
	 * signals @held.
	 */
	int release, invalidate, held;
	atomic_size_t hold_page, answer_page, fail_page, end_page, invalid_page;
};

static void reply(int fuse, __u64 unique, int error, const void *body, size_t len)
{
	struct fuse_out_header header = {
		.len = sizeof(header) + len,
		.error = error,
		.unique = unique,
	};
	struct iovec iov[] = {
		{ .iov_base = &header, .iov_len = sizeof(header) },
		{ .iov_base = (void *)body, .iov_len = len },
	};

	/* The request may have been given up meanwhile: ENOENT. */
	if (writev(fuse, iov, 2) < 0 && errno != ENOENT)
		_exit(1);
}

static void reply_data(const struct fuse_server *s, int fuse, const struct held_read *r)
{
	static char data[MAX_READ];
	size_t end = atomic_load(&s->end_page) * page_size;
	size_t len, done;

	len = r->offset < end ? end - r->offset : 0;
	if (len > r->size)
		len = r->size;
	for (done = 0; done < len; done++)
		data[done] = page_byte((r->offset + done) / page_size);
	reply(fuse, r->unique, 0, data, len);
}

static void reply_attr(const struct fuse_server *s, int fuse, __u64 unique)
{
	struct fuse_attr_out out = {
		.attr_valid = 3600,
		.attr = {
			.ino = FUSE_ROOT_ID,
			.size = s->options.nr_pages * page_size,
			.blocks = s->options.nr_pages * page_size / 512,
			.mode = S_IFREG | 0600,
			.nlink = 1,
			.blksize = page_size,
		},
	};

	reply(fuse, unique, 0, &out, sizeof(out));
}

static void reply_init(const struct fuse_server *s, int fuse, __u64 unique)
{
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = s->options.max_readahead,
		.flags = s->options.sync_reads ? 0 : FUSE_ASYNC_READ,
		/* More reads than any test has under way, or readahead would be cut short. */
		.max_background = 1024,
		.congestion_threshold = 1024,
		.max_write = page_size,
		.time_gran = 1,
	};

	reply(fuse, unique, 0, &out, sizeof(out));
}

static bool covers(const struct held_read *r, size_t page)
{
	__u64 start = (__u64)page * page_size;

	return page != FUSE_NO_PAGE && r->offset < start + page_size && start < r->offset + r->size;
}

/* A message that nobody has asked for: the opcode stands where the error would be. */
static void notify_invalid(int fuse, size_t page)
{
	const struct fuse_notify_inval_inode_out out = {
		.ino = FUSE_ROOT_ID,
		.off = page * page_size,
		.len = page_size,
	};

	reply(fuse, 0, FUSE_NOTIFY_INVAL_INODE, &out, sizeof(out));
}

/* Answers what is to be answered and returns how many reads are still held back. */
static size_t answer(const struct fuse_server *s, int fuse, struct held_read *held, size_t nr_held)
{
	size_t page = atomic_load(&s->answer_page), kept = 0, i;

	for (i = 0; i < nr_held; i++) {
		if (page == FUSE_NO_PAGE || covers(&held[i], page))
			reply_data(s, fuse, &held[i]);
		else
			held[kept++] = held[i];
	}
	return kept;
}

static void serve(struct fuse_server *s, int fuse)
{
	static union {
		struct fuse_in_header header;
		char buf[FUSE_MIN_READ_BUFFER + MAX_READ];
	} in;
	struct held_read held[MAX_HELD];
	size_t nr_held = 0;

	for (;;) {
		struct pollfd fds[] = {
			{ .fd = fuse, .events = POLLIN },
			{ .fd = s->release, .events = POLLIN },
			{ .fd = s->invalidate, .events = POLLIN },
		};
		const struct fuse_read_in *read_in = (void *)(&in.header + 1);
		const struct fuse_setattr_in *setattr_in = (void *)(&in.header + 1);
		struct fuse_open_out opened = { .open_flags = FOPEN_KEEP_CACHE };
		struct held_read r;
		eventfd_t value;
		size_t fail;
		ssize_t n;

		if (poll(fds, 3, -1) < 0)
			continue;
		if (fds[1].revents) {
			eventfd_read(s->release, &value);
			nr_held = answer(s, fuse, held, nr_held);
		}
		if (fds[2].revents) {
			eventfd_read(s->invalidate, &value);
			notify_invalid(fuse, atomic_load(&s->invalid_page));
		}
		if (!fds[0].revents)
			continue;
		n = read(fuse, &in, sizeof(in));
		/* ENODEV: unmounted. ENOENT: the request was given up before it was read. */
		if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT))
			continue;
		if (n < (ssize_t)sizeof(in.header))
			_exit(n < 0 && errno == ENODEV ? 0 : 1);

		switch (in.header.opcode) {
		case FUSE_INIT:
			reply_init(s, fuse, in.header.unique);
			break;
		case FUSE_GETATTR:
			reply_attr(s, fuse, in.header.unique);
			break;
		case FUSE_SETATTR:
			if (setattr_in->valid & FATTR_SIZE)
				s->options.nr_pages = setattr_in->size / page_size;
			reply_attr(s, fuse, in.header.unique);
			break;
		case FUSE_OPEN:
			reply(fuse, in.header.unique, 0, &opened, sizeof(opened));
			break;
		case FUSE_READ:
			r.unique = in.header.unique;
			r.offset = read_in->offset;
			r.size = read_in->size;
			fail = atomic_load(&s->fail_page);
			if (covers(&r, fail)) {
				atomic_store(&s->fail_page, FUSE_NO_PAGE);
				reply(fuse, r.unique, -EIO, NULL, 0);
			} else if (covers(&r, atomic_load(&s->hold_page)) && nr_held < MAX_HELD) {
				held[nr_held++] = r;
				eventfd_write(s->held, 1);
			} else {
				reply_data(s, fuse, &r);
			}
			break;
		case FUSE_RELEASE:
		case FUSE_DESTROY:
			reply(fuse, in.header.unique, 0, NULL, 0);
			break;
		case FUSE_FORGET:
		case FUSE_BATCH_FORGET:
		case FUSE_INTERRUPT:
			/* No answer. Whoever holds a page back is not to be hurried. */
			break;
		default:
			reply(fuse, in.header.unique, -EOPNOTSUPP, NULL, 0);
		}
	}
}

struct fuse_server *fuse_start(const struct fuse_options *options)
{
	struct fuse_server *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t parent = getpid(), pid;
	char data[64];
	int fuse, file;

	if (s == MAP_FAILED)
		return NULL;
	s->options = *options;
	s->hold_page = FUSE_NO_PAGE;
	s->answer_page = FUSE_NO_PAGE;
	s->fail_page = FUSE_NO_PAGE;
	s->end_page = options->nr_pages;
	s->release = eventfd(0, EFD_CLOEXEC);
	s->invalidate = eventfd(0, EFD_CLOEXEC);
	s->held = eventfd(0, EFD_CLOEXEC);
	snprintf(s->path, sizeof(s->path), "/tmp/mlock_rs_fuse.XXXXXX");
	file = mkstemp(s->path);
	fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s->release < 0 || s->invalidate < 0 || s->held < 0 || file < 0 || fuse < 0)
		return NULL;
	close(file);
	snprintf(data, sizeof(data), "fd=%d,rootmode=100000,user_id=0,group_id=0", fuse);
	if (mount("mlock_rs_test", s->path, "fuse", MS_NOSUID | MS_NODEV, data)) {
		unlink(s->path);
		return NULL;
	}

	pid = fork();
	if (!pid) {
		/* Whoever waits for a page of ours is set free when the test is gone. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(0);
		serve(s, fuse);
	}
	/* Only the server may have it: its death has to end the connection. */
	close(fuse);
	if (pid < 0) {
		umount2(s->path, MNT_DETACH);
		return NULL;
	}
	s->pid = pid;
	return s;
}

void fuse_stop(struct fuse_server *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	umount2(s->path, MNT_DETACH);
	unlink(s->path);
	close(s->release);
	close(s->invalidate);
	close(s->held);
	munmap(s, sizeof(*s));
}

int fuse_open(struct fuse_server *s)
{
	int fd = open(s->path, O_RDWR | O_CLOEXEC);
	struct stat st;

	/* The kernel knows nothing of the root of a mount until somebody asks. */
	return fd < 0 || fstat(fd, &st) ? -errno : fd;
}

void fuse_hold(struct fuse_server *s, size_t page)
{
	atomic_store(&s->hold_page, page);
}

bool fuse_wait_held(struct fuse_server *s, int timeout_ms)
{
	struct pollfd held = { .fd = s->held, .events = POLLIN };
	eventfd_t value;

	return poll(&held, 1, timeout_ms) == 1 && !eventfd_read(s->held, &value);
}

void fuse_answer(struct fuse_server *s, size_t page)
{
	atomic_store(&s->answer_page, page);
	eventfd_write(s->release, 1);
}

void fuse_release(struct fuse_server *s)
{
	atomic_store(&s->hold_page, FUSE_NO_PAGE);
	fuse_answer(s, FUSE_NO_PAGE);
}

void fuse_shorten(struct fuse_server *s, size_t page)
{
	atomic_store(&s->end_page, page);
}

void fuse_fail_once(struct fuse_server *s, size_t page)
{
	atomic_store(&s->fail_page, page);
}

void fuse_invalidate(struct fuse_server *s, size_t page)
{
	atomic_store(&s->invalid_page, page);
	eventfd_write(s->invalidate, 1);
}
