// SPDX-License-Identifier: GPL-2.0
/*
 * dm-delay over a loop device, made with the ioctls of both.
 */
#define _GNU_SOURCE
#include "slow_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

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

static int loop_create(struct slow_disk *d, size_t bytes)
{
	struct loop_config config = { .block_size = SECTOR };
	int control, nr, ret = 0;

	d->memory = memfd_create("slow_disk", MFD_CLOEXEC);
	if (d->memory < 0 || ftruncate(d->memory, bytes))
		return -errno;
	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (control < 0)
		return -errno;
	nr = ioctl(control, LOOP_CTL_GET_FREE);
	if (nr < 0)
		ret = -errno;
	close(control);
	if (ret)
		return ret;
	snprintf(d->loop_path, sizeof(d->loop_path), "/dev/loop%d", nr);
	d->loop = open(d->loop_path, O_RDWR | O_CLOEXEC);
	if (d->loop < 0)
		return -errno;
	config.fd = d->memory;
	return ioctl(d->loop, LOOP_CONFIGURE, &config) ? -errno : 0;
}

int slow_disk_create(struct slow_disk *d, size_t bytes)
{
	union dm_request r;
	unsigned int minor;
	int ret;

	*d = (struct slow_disk){ .memory = -1, .loop = -1, .control = -1 };
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

int slow_disk_read_ms(struct slow_disk *d, unsigned int ms)
{
	struct dm_target_spec *target;
	union dm_request r;
	int ret;

	dm_request(&r, d, 0);
	r.dm.target_count = 1;
	target = (void *)(&r.dm + 1);
	target->length = d->sectors;
	snprintf(target->target_type, sizeof(target->target_type), "delay");
	/* Reads, and then writes, which take no time. */
	snprintf((char *)(target + 1), 256, "%s 0 %u %s 0 0", d->loop_path, ms, d->loop_path);
	target->next = sizeof(*target) + 256;
	ret = dm_ioctl(d, DM_TABLE_LOAD, &r);
	if (ret)
		return ret;
	/* Without the flag for suspending it resumes, and with the new table. */
	dm_request(&r, d, DM_SKIP_LOCKFS_FLAG);
	return dm_ioctl(d, DM_DEV_SUSPEND, &r);
}

void slow_disk_destroy(struct slow_disk *d)
{
	union dm_request r;

	if (d->control >= 0) {
		slow_disk_read_ms(d, 0);
		dm_request(&r, d, 0);
		dm_ioctl(d, DM_DEV_REMOVE, &r);
		close(d->control);
	}
	if (d->loop >= 0) {
		ioctl(d->loop, LOOP_CLR_FD);
		close(d->loop);
	}
	if (d->memory >= 0)
		close(d->memory);
}
