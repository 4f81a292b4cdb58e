#!/bin/sh
# usage: debian_source.sh SUITE PACKAGE DIRECTORY
#
# Unpacks the upstream source of a Debian package from SUITE into DIRECTORY. The mirror, proxy and validity settings
# are those of the machine's own apt; everything apt writes goes to a temporary directory, so this needs no root and
# changes nothing on the machine.
set -eu

suite=$1
package=$2
directory=$3

fail() {
  echo "debian_source.sh: $*" >&2
  exit 1
}

for tool in apt-get apt-config tar xz; do
  command -v "$tool" >/dev/null || fail "'$tool' is missing; ./setup installs what this needs"
done

keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -r "$keyring" ] || fail "$keyring is missing: apt-get install debian-archive-keyring"

# The archive this machine is installed from. "update --print-uris" answers before the first "apt-get update", too.
# apt's sources may say "testing" where os-release gives a code name; the code name goes first, being the least likely
# to be somebody else's archive.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$release" ] || fail "/etc/os-release names no Debian release"
uris=$(apt-get update --print-uris 2>/dev/null) || uris=
archive=
for name in "$release" stable testing unstable sid; do
  archive=$(echo "$uris" | sed -n "s,^'\(.*\)/dists/$name/InRelease'.*,\1,p" | head -n 1)
  [ -z "$archive" ] || break
done
[ -n "$archive" ] || fail "apt's sources have no archive for '$release'"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch/state/lists/partial" "$scratch/cache/archives/partial" "$scratch/download" "$directory"

echo "deb-src [signed-by=$keyring] $archive $suite main" >"$scratch/sources.list"
# Only the Acquire section is kept: hooks and pins of the machine must not act on this private state.
apt-config dump Acquire >"$scratch/apt.conf"
cat >>"$scratch/apt.conf" <<CONF
APT::Sandbox::User "$(id -un)";
Dir::Cache "$scratch/cache";
Dir::State "$scratch/state";
Dir::State::lists "$scratch/state/lists";
Dir::State::status "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "$scratch/sources.list";
Dir::Etc::sourceparts "/dev/null";
CONF
export APT_CONFIG="$scratch/apt.conf"

apt-get --quiet update >&2 || fail "apt cannot reach its archive for '$suite'; is there a network?"
cd "$scratch/download"
apt-get --quiet --download-only source "$package" >&2 || fail "no source package '$package' in '$suite'"
set -- *.orig.tar.*z
[ -f "$1" ] || fail "the source package '$package' has no upstream archive"
cd - >/dev/null
tar --extract --file "$scratch/download/$1" --directory "$directory" --strip-components=1
