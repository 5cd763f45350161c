# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# The Debian roots with the tools: how to make one, and how to enter it.  Sourced by
# tools/toolchain, which sets the variables used here.
# shellcheck disable=SC2154

suite=trixie

# choose_root NAME  The root with the packages that tools/packages.NAME lists. What the tests need
# comes on top of what the demo needs.
choose_root() {
	local lists=("$here/packages.$1") packages
	[ "$1" != check ] || lists+=("$here/packages.demo")
	[ -e "${lists[0]}" ] || die "there is no tools/packages.$1"
	packages=$(cat "${lists[@]}" | grep '^[a-z]' | paste -sd,)
	options=(--variant=apt "--include=$packages")
	root=$cache/root.$1-$(echo "$suite ${options[*]}" | sha256sum | cut -c1-12)
}

# locked COMMAND...  Only one at a time may change the cache; it finds no halves of earlier runs.
locked() {
	(
		flock -n 9 || { note "waiting for another run that fills $cache"; flock 9; }
		rm -rf --one-file-system "$cache/tmp"
		mkdir -p "$cache/tmp"
		"$@"
	) 9>"$cache/lock"
}

make_root() {
	[ ! -e "$root" ] || return 0
	need_commands mmdebstrap:mmdebstrap
	local log=$cache/log/root.log start=$SECONDS
	note "making a Debian 13 root in $root"
	debootstrap_to "$cache/tmp/root" "$log" '--exclude=./dev/*' -- "${options[@]}" $suite ||
		die "cannot make the Debian root: $(reason "$log"); see $log"
	mv "$cache/tmp/root" "$root"
	[ $((SECONDS - start)) -gt 3 ] || return 0
	mkdir -p "$clone/build"
	printf '%s\t%s\n' $((SECONDS - start)) "Debian root with the tools" >>"$clone/build/phases"
}

# enter_root COMMAND...  The root is read-only; what the command may change keeps its path.
enter_root() {
	local dir bind=()
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
