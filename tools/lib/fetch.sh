# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Downloading with mmdebstrap, for tools/toolchain.  It runs on a host that may have nothing but
# bash, apt and root, so it needs no more than those.  Sourced, not run.

die() { echo "toolchain: $*" >&2; exit 1; }
note() { echo "toolchain: $*" >&2; }

cache=${MLOCK_RS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mlock_rs}
mkdir -p "$cache/log" "$cache/home" || die "cannot write to $cache; set MLOCK_RS_CACHE"
cache=$(realpath "$cache")
export MLOCK_RS_CACHE=$cache

# need_commands COMMAND:PACKAGE...  Install the packages whose command is missing.
need_commands() {
	local pair missing=()
	for pair; do
		command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		die "please install ${missing[*]} (as root: apt-get install ${missing[*]})"
	fi
	note "installing ${missing[*]} on this host"
	export DEBIAN_FRONTEND=noninteractive
	local log=$cache/log/apt.log
	# The package lists may be missing or too old; only then are they worth a download.
	apt-get -y --no-install-recommends install "${missing[@]}" >"$log" 2>&1 ||
		{ apt-get update && apt-get -y --no-install-recommends install "${missing[@]}"; } \
			>>"$log" 2>&1 ||
		die "cannot install ${missing[*]} (is there a network?); see $log"
}

# reason LOG  What apt says went wrong, shortened to a part of a line.
reason() {
	local why
	why=$(sed -n 's/^E: //p' "$1" | head -1 | cut -c1-150)
	case $why in
	*[Cc]"ould not "[rc]*|*"Temporary failure"*|*"nable to connect"*) echo "no network" ;;
	*) echo "${why:-it was interrupted}" ;;
	esac
}

# watch PID LOG  Say how far mmdebstrap has come until PID ends: one line that is rewritten on a
# terminal, a line every 20 s elsewhere.
watch() {
	local pid=$1 log=$2 start=$SECONDS announced=0 total=0 sizes text
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		# Essential packages come first and the rest second: two downloads.
		mapfile -t sizes < <(sed -n 's/^Need to get \(.*\) of archives.*/\1/p' "$log")
		if [ ${#sizes[@]} -gt "$announced" ]; then
			total=$(($(sed -n 's/.* \([0-9]*\) newly installed.*/\1/p' "$log" |
				paste -sd+)))
			note "downloading ${sizes[-1]}"
			announced=${#sizes[@]}
		fi
		text="$(grep -c '^Get:.* \[' "$log") files fetched,"
		text+=" $(grep -c '^Setting up' "$log") of $total packages set up,"
		text+=" $((SECONDS - start)) s"
		if [ -t 2 ]; then
			printf '\rtoolchain: %s ' "$text" >&2
		elif [ $(((SECONDS - start) % 20)) = 0 ]; then
			note "$text"
		fi
	done
	[ ! -t 2 ] || printf '\r\033[K' >&2
}

# debootstrap_to DIR LOG TAR_OPTIONS -- MMDEBSTRAP_OPTIONS  Unpack what mmdebstrap makes in DIR, as
# files of the calling user: an unprivileged user can enter and remove that like anything else.
debootstrap_to() {
	local dir=$1 log=$2 tar=() pid status=0
	shift 2
	while [ "$1" != -- ]; do tar+=("$1"); shift; done
	shift
	# In a mount namespace of its own, what it mounts goes when it goes, even if killed.
	local mode=root tmp=$cache/tmp/mmdebstrap own=(unshare --mount)
	if [ "$(id -u)" != 0 ]; then
		# The temporary tree belongs to the user's subordinate ids, who cannot enter $HOME.
		mode=unshare tmp=/var/tmp own=()
		need_commands newuidmap:uidmap
	fi
	mkdir -p "$dir" "$cache/tmp/mmdebstrap"
	(
		set -o pipefail
		TMPDIR=$tmp "${own[@]}" mmdebstrap --verbose --mode=$mode --format=tar "$@" 2>"$log" |
			tar -x -C "$dir" "${tar[@]}" 2>>"$log"
	) &
	pid=$!
	watch $pid "$log"
	wait $pid || status=$?
	return $status
}
