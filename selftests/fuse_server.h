/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file of page_byte() whose pages come when the test says so: a FUSE server in a process of its
 * own, which holds back the answer to a read as long as it is told to.
 */
#ifndef MLOCK_RS_FUSE_SERVER_H
#define MLOCK_RS_FUSE_SERVER_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuse_server;

struct fuse_options {
	size_t nr_pages;
	/* Leave FUSE_ASYNC_READ out of the answer to FUSE_INIT. */
	bool sync_reads;
	/* How many bytes the kernel may read ahead at the most. */
	__u32 max_readahead;
};

#define FUSE_MUCH_READAHEAD	(128U << 10)
#define FUSE_NO_PAGE		SIZE_MAX

/* Mounts the file and starts to serve it. Returns NULL with errno. */
struct fuse_server *fuse_start(const struct fuse_options *options);
/* Ends the server, which answers what is held back with an error. */
void fuse_stop(struct fuse_server *s);

/* The file, open for reading and to change its size (it cannot be written); or -errno. */
int fuse_open(struct fuse_server *s);

/* From now on a read of @page gets no answer. */
void fuse_hold(struct fuse_server *s, size_t page);
/* Waits until a read is held back. Returns false if there is none within @timeout_ms. */
bool fuse_wait_held(struct fuse_server *s, int timeout_ms);
/* Answers what is held back of @page, and goes on holding back the rest. */
void fuse_answer(struct fuse_server *s, size_t page);
/* Answers what is held back and holds nothing back any more. */
void fuse_release(struct fuse_server *s);
/* From now on the file ends before @page, as far as reads are concerned. */
void fuse_shorten(struct fuse_server *s, size_t page);
/* Has the kernel forget @page of the file, as if it had changed on the server. */
void fuse_invalidate(struct fuse_server *s, size_t page);
/* The next read of @page, a single time, is answered with EIO. */
void fuse_fail_once(struct fuse_server *s, size_t page);

#endif /* MLOCK_RS_FUSE_SERVER_H */
