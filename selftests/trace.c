// SPDX-License-Identifier: GPL-2.0
/*
 * The mmap_lock trace events of some threads, in the order in which the kernel took and gave up the
 * locks: what really happened, as opposed to what a program can see from outside.
 *
 * The kernel writes "acquired" after it has got the lock and "released" before it gives it up, so
 * that the order of the events of two threads is the order of their holds.
 */
#define _GNU_SOURCE
#include "trace.h"
#include "kselftest.h"
#include "mlock_rs_test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define INSTANCES	"/sys/kernel/tracing/instances"
#define NUMA_BALANCING	"/proc/sys/kernel/numa_balancing"

static int write_file(const struct trace *t, const char *name, const char *text, int flags)
{
	char path[192];
	int fd, ret = 0;

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC | flags);
	if (fd < 0)
		return -errno;
	if (*text && write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/*
 * One instance for all tests of a program: it takes the debug kernel half a second to make one and
 * to remove it. With tracing off, and a filter for threads that are gone, it costs next to nothing.
 */
static pid_t program;

static __attribute__((constructor)) void remember_program(void)
{
	program = getpid();
}

static void name_instance(struct trace *t)
{
	snprintf(t->dir, sizeof(t->dir), INSTANCES "/mlock_rs_%s", program_invocation_short_name);
}

/* At the end of the program itself, not of the processes of its tests. */
static __attribute__((destructor)) void remove_instance(void)
{
	struct trace t;

	if (getpid() != program)
		return;
	name_instance(&t);
	if (access(t.dir, F_OK))
		return;
	write_file(&t, "events/mmap_lock/enable", "0", 0);
	rmdir(t.dir);
}

static int open_with_filter(struct trace *t, const char *filter)
{
	char path[192];
	int ret;

	t->marker = -1;
	name_instance(t);
	if (mkdir(t->dir, 0700) && errno != EEXIST)
		return -errno;

	/*
	 * On its way out of the kernel a thread may take its lock for NUMA balancing, when its
	 * call is over. What is recorded is to be the call's alone.
	 */
	t->numa_balancing = read_number(NUMA_BALANCING);
	if (t->numa_balancing > 0)
		write_number(NUMA_BALANCING, 0);

	/* The counter is one clock for all CPUs: no two events have the same time. */
	ret = write_file(t, "tracing_on", "0", 0);
	if (!ret)
		ret = write_file(t, "trace_clock", "counter", 0);
	if (!ret)
		ret = write_file(t, "buffer_size_kb", "512", 0);
	if (!ret)
		ret = write_file(t, "events/mmap_lock/filter", filter, 0);
	if (!ret)
		ret = write_file(t, "events/mmap_lock/enable", "1", 0);
	if (ret)
		return ret;

	snprintf(path, sizeof(path), "%s/trace_marker", t->dir);
	t->marker = open(path, O_WRONLY | O_CLOEXEC);
	return t->marker < 0 ? -errno : 0;
}

int trace_open(struct trace *t, const pid_t *tids, size_t nr_tids)
{
	char filter[256] = "";
	size_t i, len = 0;

	for (i = 0; i < nr_tids; i++)
		len += snprintf(filter + len, sizeof(filter) - len, "%scommon_pid == %d",
				i ? " || " : "", tids[i]);
	return open_with_filter(t, filter);
}

int trace_open_with_helpers(struct trace *t, pid_t tid)
{
	char filter[64];

	/* The name that the module gives to them. */
	snprintf(filter, sizeof(filter), "common_pid == %d || comm == \"mlock_rs\"", tid);
	return open_with_filter(t, filter);
}

int trace_use_clock(struct trace *t, const char *clock)
{
	return write_file(t, "trace_clock", clock, 0);
}

void trace_close(struct trace *t)
{
	if (!t->dir[0])
		return;
	if (t->marker >= 0)
		close(t->marker);
	write_file(t, "tracing_on", "0", 0);
	if (t->numa_balancing > 0)
		write_number(NUMA_BALANCING, t->numa_balancing);
	t->dir[0] = '\0';
}

static void mark(const struct trace *t, const char *text)
{
	/* Its absence in the trace is noticed: no need to look at the result. */
	if (write(t->marker, text, strlen(text)) < 0)
		perror("trace_marker");
}

void trace_start(struct trace *t)
{
	write_file(t, "trace", "", O_TRUNC);
	write_file(t, "tracing_on", "1", 0);
	mark(t, "begin");
}

/* What stands before @end: a number of the clock "counter", or seconds with six decimals. */
static __u64 parse_time(const char *line, const char *end)
{
	const char *text = end;
	char *dot;
	__u64 n;

	while (text > line && text[-1] != ' ')
		text--;
	n = strtoull(text, &dot, 10);
	return *dot == '.' ? n * 1000000000 + strtoull(dot + 1, NULL, 10) * 1000 : n;
}

/* comm-PID [cpu] flags time: mmap_lock_NAME: mm=... write=true success=true */
static bool parse_event(const char *line, struct lock_event *event)
{
	const char *name = strstr(line, ": mmap_lock_");
	const char *cpu = strstr(line, " [");
	const char *pid = cpu;

	if (!name || !cpu)
		return false;
	/* A comm may contain anything: the PID is what stands before the CPU. */
	while (pid > line && pid[-1] == ' ')
		pid--;
	while (pid > line && pid[-1] != '-')
		pid--;
	event->tid = strtol(pid, NULL, 10);
	event->ns = parse_time(line, name);
	name += strlen(": mmap_lock_");
	event->write = strstr(name, " write=true");
	if (!strncmp(name, "start_locking", 13))
		event->what = LOCK_START;
	else if (!strncmp(name, "acquire_returned", 16))
		event->what = strstr(name, " success=true") ? LOCK_ACQUIRED : LOCK_FAILED;
	else if (!strncmp(name, "released", 8))
		event->what = LOCK_RELEASED;
	else
		return false;
	return true;
}

/* Reads what there is. Returns 0 if it has a beginning, and an end if it @has_ended. */
static int read_trace(struct trace *t, bool has_ended)
{
	bool inside = false, complete = false;
	char path[192], line[512];
	FILE *f;

	t->nr = 0;
	snprintf(path, sizeof(path), "%s/trace", t->dir);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		unsigned long in_buffer, written;

		if (sscanf(line, "# entries-in-buffer/entries-written: %lu/%lu", &in_buffer,
			   &written) == 2) {
			if (in_buffer != written)
				break;
		} else if (strstr(line, "LOST")) {
			break;
		} else if (strstr(line, "tracing_mark_write: begin")) {
			inside = true;
		} else if (strstr(line, "tracing_mark_write: end")) {
			complete = inside;
			inside = false;
		} else if (inside && t->nr < ARRAY_SIZE(t->event)) {
			t->nr += parse_event(line, &t->event[t->nr]);
		}
	}
	fclose(f);
	complete |= inside && !has_ended;
	return complete && t->nr < ARRAY_SIZE(t->event) ? 0 : -EOVERFLOW;
}

int trace_stop(struct trace *t)
{
	mark(t, "end");
	write_file(t, "tracing_on", "0", 0);
	return read_trace(t, true);
}

bool trace_waits(struct trace *t, pid_t tid, bool write)
{
	size_t i;

	if (read_trace(t, false))
		return false;
	for (i = t->nr; i && t->event[i - 1].tid != tid; i--)
		;
	return i && t->event[i - 1].what == LOCK_START && t->event[i - 1].write == write;
}

int trace_ioctl(struct trace *t, int fd, unsigned long cmd, void *arg, int *ret)
{
	trace_start(t);
	*ret = ioctl(fd, cmd, arg) ? -errno : 0;
	return trace_stop(t);
}

/* Events in words, one after the other. */
struct words {
	char text[2048];
	size_t len;
};

static void add_words(struct words *w, const struct lock_event *e)
{
	static const char *const names[] = {
		[LOCK_START] = "start",
		[LOCK_ACQUIRED] = "acquired",
		[LOCK_FAILED] = "failed",
		[LOCK_RELEASED] = "released",
	};

	if (w->len < sizeof(w->text))
		w->len += snprintf(w->text + w->len, sizeof(w->text) - w->len, "%s%s-%s",
				   w->len ? " " : "", names[e->what], e->write ? "write" : "read");
}

static const char *sequence(const struct trace *t, pid_t tid, bool from_first_write)
{
	static struct words words;
	size_t i;

	words = (struct words) {};
	for (i = 0; i < t->nr; i++) {
		const struct lock_event *e = &t->event[i];

		if (e->tid != tid || (from_first_write && !e->write))
			continue;
		from_first_write = false;
		add_words(&words, e);
	}
	return words.text;
}

const char *lock_sequence(const struct trace *t, pid_t tid)
{
	return sequence(t, tid, true);
}

const char *full_sequence(const struct trace *t, pid_t tid)
{
	return sequence(t, tid, false);
}

const char *others_sequence(const struct trace *t, pid_t tid, bool before_release)
{
	static struct words words;
	size_t end = t->nr, i;

	words = (struct words) {};
	while (before_release && end &&
	       (t->event[end - 1].tid != tid || t->event[end - 1].what != LOCK_RELEASED))
		end--;
	for (i = 0; i < end; i++)
		if (t->event[i].tid != tid)
			add_words(&words, &t->event[i]);
	return words.text;
}

bool other_writer_inside(const struct trace *t, pid_t tid)
{
	size_t first = t->nr, last = 0, i;

	for (i = 0; i < t->nr; i++) {
		const struct lock_event *e = &t->event[i];

		if (e->tid != tid)
			continue;
		if (first == t->nr && e->what == LOCK_ACQUIRED && e->write)
			first = i;
		if (e->what == LOCK_RELEASED)
			last = i;
	}
	for (i = first; i < last; i++) {
		const struct lock_event *e = &t->event[i];

		if (e->tid != tid && e->what == LOCK_ACQUIRED && e->write)
			return true;
	}
	return false;
}

bool writer_before_release(const struct trace *t, pid_t writer, pid_t tid)
{
	bool begun = false;
	size_t i;

	for (i = 0; i < t->nr; i++) {
		const struct lock_event *e = &t->event[i];

		if (e->tid == tid && begun && e->what == LOCK_RELEASED)
			break;
		begun |= e->tid == tid && e->what == LOCK_ACQUIRED && e->write;
		if (e->tid == writer && begun && e->what == LOCK_ACQUIRED && e->write)
			return true;
	}
	return false;
}
