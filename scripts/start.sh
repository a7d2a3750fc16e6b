#!/bin/sh
# Creates a Cargo project in which you write the five stages yourself.
#
# Usage: start.sh DIR
#
# DIR gets five programs. Each has the lines of its slide as comments, and a todo!() below each. compare.sh N --program
# checks a program at any time, and prints which lines are done.
set -eu

case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    '' | -*) echo 'start.sh: the name of a new directory is missing; see --help' >&2; exit 1 ;;
esac
dir=$1
scripts=$(cd -- "$(dirname -- "$0")" && pwd -P)
if [ -e "$dir" ]; then
    echo "start.sh: '$dir' exists already: name a new directory" >&2
    exit 1
fi
cp -r "$scripts/start" "$dir"
cp "${scripts%/*}/Cargo.lock" "$dir"
sed "s|COMMON|${scripts%/*}/common|" "$scripts/start/Cargo.toml" >"$dir/Cargo.toml"
cat <<END2
Replace the todo!() below each line in $dir/src/bin/stage1/main.rs, and check it:

  cd $dir && cargo build
  sudo $scripts/compare.sh 1 --program target/debug/stage1

Try it now: the first check must fail, since no line is done. It passes when every line is. Stages 2 to 5 need no sudo.
For stages 4 and 5, scripts/rootfs.sh creates a root file system.
END2
