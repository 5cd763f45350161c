// SPDX-License-Identifier: GPL-2.0
/*
 * dm-delay and dm-error over a loop device, made with the ioctls of both.
 */
#define _GNU_SOURCE
#include "slow_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/swap.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#define SECTOR		512

union dm_request {
	struct dm_ioctl dm;
	char buf[1024];
};

static void dm_request(union dm_request *r, const struct slow_disk *d, unsigned int flags)
{
	memset(r, 0, sizeof(*r));
	r->dm.version[0] = DM_VERSION_MAJOR;
	r->dm.data_size = sizeof(*r);
	r->dm.data_start = sizeof(r->dm);
	r->dm.flags = flags;
	snprintf(r->dm.name, sizeof(r->dm.name), "%s", d->name);
}

static int dm_ioctl(const struct slow_disk *d, unsigned long cmd, union dm_request *r)
{
	return ioctl(d->control, cmd, r) ? -errno : 0;
}

/* A loop device over @file. Returns its number or -errno; @path is where it is, @loop gets it. */
static int loop_over(int file, char *path, size_t size, int *loop)
{
	struct loop_config config = { .fd = file, .block_size = SECTOR };
	int nr, control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

	if (control < 0)
		return -errno;
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	if (nr < 0)
		nr = -errno;
	close(control);
	if (nr < 0)
		return nr;
	snprintf(path, size, "/dev/loop%d", nr);
	*loop = open(path, O_RDWR | O_CLOEXEC);
	if (*loop < 0 || ioctl(*loop, LOOP_CONFIGURE, &config))
		return -errno;
	return nr;
}

static int loop_create(struct slow_disk *d, size_t bytes)
{
	int nr;

	d->memory = memfd_create("slow_disk", MFD_CLOEXEC);
	if (d->memory < 0 || ftruncate(d->memory, bytes))
		return -errno;
	nr = loop_over(d->memory, d->loop_path, sizeof(d->loop_path), &d->loop);
	return nr < 0 ? nr : 0;
}

static void loop_destroy(int loop)
{
	if (loop < 0)
		return;
	ioctl(loop, LOOP_CLR_FD);
	close(loop);
}

int slow_disk_create(struct slow_disk *d, size_t bytes)
{
	union dm_request r;
	unsigned int minor;
	int ret;

	*d = (struct slow_disk){ .memory = -1, .loop = -1, .control = -1, .queue = -1 };
	d->sectors = bytes / SECTOR;
	ret = loop_create(d, bytes);
	if (ret)
		return ret;
	snprintf(d->name, sizeof(d->name), "slow%d", getpid());
	d->control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (d->control < 0)
		return -errno;
	dm_request(&r, d, 0);
	ret = dm_ioctl(d, DM_DEV_CREATE, &r);
	if (ret)
		return ret;
	minor = (r.dm.dev & 0xff) | (r.dm.dev >> 12 & 0xfff00);
	snprintf(d->path, sizeof(d->path), "/dev/dm-%u", minor);
	return slow_disk_read_ms(d, 0);
}

/* Adds a target to the table of the request, up to the sector @end. */
static void add_target(union dm_request *r, size_t end, const char *type, const char *parameters)
{
	const size_t room = sizeof(struct dm_target_spec) + 128;
	const size_t at = sizeof(r->dm) + r->dm.target_count * room;
	struct dm_target_spec *target = (void *)(r->buf + at);

	if (r->dm.target_count) {
		const struct dm_target_spec *last = (void *)((char *)target - room);

		target->sector_start = last->sector_start + last->length;
	}
	target->length = end - target->sector_start;
	target->next = room;
	snprintf(target->target_type, sizeof(target->target_type), "%s", type);
	snprintf((char *)(target + 1), 128, "%s", parameters);
	r->dm.target_count++;
}

/* Reads, and then writes, which take no time. */
static void add_delay(union dm_request *r, const struct slow_disk *d, size_t end, unsigned int ms)
{
	char parameters[128];

	snprintf(parameters, sizeof(parameters), "%s 0 %u %s 0 0", d->loop_path, ms, d->loop_path);
	add_target(r, end, "delay", parameters);
}

/* Puts the table of @r in the place of the one that is there. */
static int load_table(const struct slow_disk *d, union dm_request *r)
{
	int ret = dm_ioctl(d, DM_TABLE_LOAD, r);

	if (ret)
		return ret;
	/* Without the flag for suspending it resumes, and with the new table. */
	dm_request(r, d, DM_SKIP_LOCKFS_FLAG);
	return dm_ioctl(d, DM_DEV_SUSPEND, r);
}

int slow_disk_read_ms(struct slow_disk *d, unsigned int ms)
{
	union dm_request r;

	dm_request(&r, d, 0);
	add_delay(&r, d, d->sectors, ms);
	return load_table(d, &r);
}

int slow_disk_fail_from(struct slow_disk *d, size_t page)
{
	const size_t good = page * page_size / SECTOR;
	union dm_request r;

	dm_request(&r, d, 0);
	if (good)
		add_delay(&r, d, good, 0);
	add_target(&r, d->sectors, "error", "");
	return load_table(d, &r);
}

int slow_disk_queue(struct slow_disk *d, unsigned int nr_requests)
{
	int nr, file = open(d->path, O_RDWR | O_CLOEXEC);
	char path[64];

	if (file < 0)
		return -errno;
	nr = loop_over(file, d->queue_path, sizeof(d->queue_path), &d->queue);
	close(file);
	if (nr < 0)
		return nr;
	snprintf(path, sizeof(path), "/sys/block/loop%d/queue/nr_requests", nr);
	return write_number(path, nr_requests);
}

long slow_disk_requests(const struct slow_disk *d)
{
	char path[64];

	/* Reads come first. */
	snprintf(path, sizeof(path), "/sys/block/%s/inflight", strrchr(d->queue_path, '/') + 1);
	return read_number(path);
}

/* The header that mkswap(8) writes. */
static int make_swap(const struct slow_disk *d)
{
	const __u32 info[3] = { 1, d->sectors * SECTOR / page_size - 1, 0 };
	int fd = open(d->path, O_RDWR | O_CLOEXEC), ret = 0;
	char header[page_size];

	if (fd < 0)
		return -errno;
	memset(header, 0, sizeof(header));
	memcpy(header + 1024, info, sizeof(info));
	memcpy(header + page_size - 10, "SWAPSPACE2", 10);
	if (write(fd, header, sizeof(header)) != (ssize_t)sizeof(header) || fsync(fd))
		ret = -EIO;
	close(fd);
	return ret;
}

int slow_disk_swapon(struct slow_disk *d)
{
	int ret = make_swap(d);

	if (ret)
		return ret;
	if (swapon(d->path, 0))
		return -errno;
	d->swapping = true;
	return 0;
}

int slow_disk_mount(struct slow_disk *d)
{
	char command[64];

	snprintf(command, sizeof(command), "mke2fs %s >/dev/null 2>&1", d->path);
	if (system(command))
		return -ENOENT;
	snprintf(d->mountpoint, sizeof(d->mountpoint), "/tmp/mlock_rs_ext4.XXXXXX");
	if (!mkdtemp(d->mountpoint))
		return -errno;
	if (mount(d->path, d->mountpoint, "ext4", 0, NULL)) {
		int ret = -errno;

		rmdir(d->mountpoint);
		return ret;
	}
	d->mounted = true;
	return 0;
}

int slow_disk_file(const struct slow_disk *d)
{
	int fd = open(d->mountpoint, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

void slow_disk_destroy(struct slow_disk *d)
{
	union dm_request r;

	if (d->control >= 0) {
		slow_disk_read_ms(d, 0);
		loop_destroy(d->queue);
		if (d->swapping)
			swapoff(d->path);
		if (d->mounted) {
			umount2(d->mountpoint, MNT_DETACH);
			rmdir(d->mountpoint);
		}
		dm_request(&r, d, 0);
		dm_ioctl(d, DM_DEV_REMOVE, &r);
		close(d->control);
	}
	loop_destroy(d->loop);
	if (d->memory >= 0)
		close(d->memory);
}
