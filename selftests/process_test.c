// SPDX-License-Identifier: GPL-2.0
/*
 * LOCK acts on the address space of whoever calls it, whoever opened the device; and the locks it
 * leaves behind live and die with the mapping, as those of mlock(2).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <sys/socket.h>

#include "mlock_rs_test.h"

#define NR_PAGES	8UL

FIXTURE(process)
{
	int dev;
	char *addr;
};

FIXTURE_SETUP(process)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(process)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

/* Waits for @child, whose assertions went into the metadata that the processes share. */
static void join_child(struct __test_metadata *_metadata, pid_t child)
{
	int status;

	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(0, WEXITSTATUS(status));
}

TEST_F(process, child_has_no_locked_memory)
{
	pid_t child;

	memset(self->addr, 1, NR_PAGES * page_size);
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		EXPECT_EQ(0, vmlck());
		EXPECT_EQ(0, count(states(self->addr, NR_PAGES), 'L'));
		_exit(0);
	}
	join_child(_metadata, child);
	/* And the parent's is as it was. */
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(process, inherited_descriptor_locks_the_childs_memory)
{
	pid_t child = fork();

	ASSERT_LE(0, child);
	if (!child) {
		EXPECT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
		EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
		EXPECT_EQ(NR_PAGES * page_size, vmlck());
		_exit(0);
	}
	join_child(_metadata, child);
	/* The same address, the same descriptor, but not this process. */
	EXPECT_STREQ(all('u', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(0, vmlck());
}

static int send_fd(int socket, int fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	char byte = 0;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	return sendmsg(socket, &msg, 0) == 1 ? 0 : -errno;
}

static int receive_fd(int socket)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(socket, &msg, 0) != 1)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -EBADMSG;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

TEST_F(process, descriptor_of_another_process_locks_the_callers_memory)
{
	int sockets[2], fd;
	pid_t child;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		int own = mlock_rs_open();

		EXPECT_LE(0, own);
		EXPECT_EQ(0, send_fd(sockets[1], own));
		/* Lives on until the parent has used it. */
		EXPECT_EQ(1, read(sockets[1], &own, 1));
		EXPECT_EQ(0, vmlck());
		_exit(0);
	}
	fd = receive_fd(sockets[0]);
	ASSERT_LE(0, fd);
	EXPECT_EQ(0, mlock_rs(fd, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
	EXPECT_EQ(1, write(sockets[0], "", 1));
	join_child(_metadata, child);

	/* The process that opened it is gone. The descriptor works, and for us. */
	ASSERT_EQ(0, munlock(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, mlock_rs(fd, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
	close(fd);
}

TEST_F(process, closing_the_device_unlocks_nothing)
{
	int fd = mlock_rs_open();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, mlock_rs(fd, self->addr, NR_PAGES * page_size, NULL));
	ASSERT_EQ(0, close(fd));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

struct lock_call {
	int dev;
	char *addr;
	size_t len;
	int ret;
};

static void *lock_in_thread(void *arg)
{
	struct lock_call *call = arg;

	call->ret = mlock_rs(call->dev, call->addr, call->len, NULL);
	return NULL;
}

TEST_F(process, lock_of_a_thread_outlives_it)
{
	struct lock_call call = {
		.dev = self->dev,
		.addr = self->addr,
		.len = NR_PAGES * page_size,
		.ret = -1,
	};
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, lock_in_thread, &call));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_EQ(0, call.ret);
	EXPECT_STREQ(all('L', NR_PAGES), states(self->addr, NR_PAGES));
}

TEST_F(process, shared_pages_are_locked_once_per_process)
{
	char *shared = mmap(NULL, NR_PAGES * page_size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;

	ASSERT_NE(MAP_FAILED, shared);
	ASSERT_EQ(0, mlock_rs(self->dev, shared, NR_PAGES * page_size, NULL));
	/* The kernel counts right who locks a page only while it is on the LRU. */
	drain_lru();
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		EXPECT_EQ(0, mlock_rs(self->dev, shared, NR_PAGES * page_size, NULL));
		_exit(0);
	}
	join_child(_metadata, child);
	/* The child's lock ended with it, ours holds the pages. */
	EXPECT_EQ(NR_PAGES, count_kpageflag(shared, NR_PAGES, KPF_MLOCKED_BIT));
	ASSERT_EQ(0, munlock(shared, NR_PAGES * page_size));
	drain_lru();
	EXPECT_EQ(0, count_kpageflag(shared, NR_PAGES, KPF_MLOCKED_BIT));
}

TEST_F(process, mremap_moves_the_lock)
{
	char *moved;

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	moved = mremap(self->addr, NR_PAGES * page_size, NR_PAGES * page_size,
		       MREMAP_MAYMOVE | MREMAP_FIXED, map_region(NR_PAGES));
	ASSERT_NE(MAP_FAILED, moved);
	EXPECT_STREQ(all('L', NR_PAGES), states(moved, NR_PAGES));
	EXPECT_EQ(NR_PAGES * page_size, vmlck());
}

TEST_HARNESS_MAIN
