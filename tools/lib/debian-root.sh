# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# What comes from Debian: the kernel source and the root with the tools, and how to enter that
# root.  Sourced by tools/toolchain, which sets the variables used here.
# shellcheck disable=SC2154

suite=trixie
asked=${KERNEL:-}
versions=$(grep '^[0-9]' "$clone/kernel/versions" | paste -sd' ')

# has VERSION  Whether its source is here, or can be had as far as is known: Debian is asked again
# after a day.
has() {
	[ -e "$cache/linux-source-$1.tar.xz" ] ||
		[ -z "$(find "$cache/no-linux-source-$1" -mtime -1 2>/dev/null)" ]
}

# choose_kernel  The version that was asked for, or the first one that can be had.
choose_kernel() {
	local version
	kernel=$asked
	for version in $versions; do
		[ -z "$kernel" ] || break
		if [ -n "${KERNEL_SRC:-}" ] || has "$version"; then kernel=$version; fi
	done
	[ -n "$kernel" ] || die "Debian has no linux-source for any of $versions any more;" \
		"name a kernel tree with KERNEL_SRC="
	tarball=$cache/linux-source-$kernel.tar.xz
	export KERNEL=$kernel
}

# choose_root LIST WHAT  The root is the one with the packages of tools/LIST.
choose_root() {
	local packages
	what=$2
	packages=$(grep '^[a-z]' "$here/$1" | paste -sd,)
	options=(--variant=apt "--include=$packages")
	root=$cache/root${1#packages}-$(echo "$suite ${options[*]}" | sha256sum | cut -c1-12)
}
choose_root packages "the build tools"

# Whether the kernel source has to be fetched.
no_source() { [ -z "${KERNEL_SRC:-}" ] && [ ! -e "$tarball" ]; }

# locked COMMAND...  Only one at a time may change the cache; it finds no halves of earlier runs.
locked() {
	(
		flock -n 9 || { note "waiting for another run that fills $cache"; flock 9; }
		rm -rf --one-file-system "$cache/tmp"
		mkdir -p "$cache/tmp"
		"$@"
	) 9>"$cache/lock"
}

# fetch VERSION  Its source, from the first suite that has it; fails if none has.
fetch() {
	need_commands mmdebstrap:mmdebstrap
	local from log=$cache/log/source.log file=linux-source-$1.tar.xz
	for from in trixie-backports forky sid; do
		note "fetching Debian's linux-source-$1 from $from"
		# The default sources name the mirrors; the same ones have the other suites.
		# shellcheck disable=SC2016
		if debootstrap_to "$cache/tmp/source" "$log" --strip-components=3 \
			"./usr/src/$file" -- --variant=extract "--include=linux-source-$1" \
			--setup-hook='cd "$1/etc/apt" && sed -n "s/ '$suite' main/ '$from' main/p" \
				sources.list >sources.list.d/source.list' $suite; then
			mv "$cache/tmp/source/$file" "$cache/$file" || die "cannot write to $cache"
			return 0
		fi
		grep -q 'Unable to locate package' "$log" ||
			die "cannot download linux-source-$1: $(reason "$log"); see $log"
	done
	touch "$cache/no-linux-source-$1" || die "cannot write to $cache"
	return 1
}

fetch_source() {
	while no_source && ! fetch "$kernel"; do
		[ -z "$asked" ] ||
			die "Debian has no linux-source-$kernel; name a kernel tree with KERNEL_SRC="
		choose_kernel
	done
}

# What was fetched may be another version than was hoped for.
get_source() {
	! no_source || locked fetch_source
	choose_kernel
}

# The sources of all versions that can be had. The caller does without the others.
fetch_sources() {
	for kernel in $versions; do
		[ -e "$cache/linux-source-$kernel.tar.xz" ] || ! has "$kernel" || (fetch "$kernel") || :
	done
}

make_root() {
	[ ! -e "$root" ] || return 0
	need_commands mmdebstrap:mmdebstrap bwrap:bubblewrap
	local log=$cache/log/root.log
	note "making a Debian 13 root with $what in $root"
	debootstrap_to "$cache/tmp/root" "$log" '--exclude=./dev/*' -- "${options[@]}" $suite ||
		die "cannot make the Debian root: $(reason "$log"); see $log"
	mv "$cache/tmp/root" "$root"
}

# One waits for the network while the other unpacks.
fetch_source_and_root() {
	local pid
	need_commands mmdebstrap:mmdebstrap bwrap:bubblewrap
	# One progress line at a time.
	quiet=1 fetch_source &
	pid=$!
	# shellcheck disable=SC2064 # now, not then
	trap "kill $pid 2>/dev/null" EXIT
	make_root
	wait $pid || exit 1
	trap - EXIT
}

# enter_root COMMAND...  The root is read-only; what the command may change keeps its path.
enter_root() {
	local dir bind=()
	for dir in "${KERNEL_SRC:-}" "${KDIR:-}"; do
		[ ! -d "$dir" ] || bind+=(--ro-bind "$(realpath "$dir")" "$(realpath "$dir")")
	done
	bind+=(--bind /tmp /tmp --bind /var/tmp /var/tmp)
	case $PWD/ in
	/|/usr/*|/etc/*|/bin/*|/sbin/*|/lib*/*|/proc/*|/sys/*|/dev/*) ;;
	*) bind+=(--bind "$PWD" "$PWD") ;;
	esac
	bind+=(--bind "$clone" "$clone" --bind "$cache" "$cache")
	for dir in /etc/resolv.conf /etc/hosts /etc/passwd /etc/group \
		   /etc/ssl/certs/ca-certificates.crt; do
		[ ! -e "$dir" ] || bind+=(--ro-bind "$dir" "$dir")
	done
	# Ctrl-C is for the command alone. Who kills this process ends everything in there; that is
	# why it waits and does not become bwrap, which would die with the shell that started it.
	trap '' INT QUIT
	bwrap --bind "$root" / --dev-bind /dev /dev --proc /proc --ro-bind /sys /sys \
		--tmpfs /run "${bind[@]}" --remount-ro / --unshare-pid --die-with-parent \
		--chdir "$PWD" --setenv HOME "$cache/home" --setenv LC_ALL C.UTF-8 \
		--setenv PATH /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		--setenv MLOCK_RS_INSIDE "$(basename "$root")" \
		env --default-signal=INT,QUIT "$@" || exit $?
}
