#!/bin/sh
# Writes into each stage's README what its main.rs has that the stage before has not.
#
# Usage: diff-stages.sh [--check]
#
#   --check   change nothing; exit with 1 if a README is out of date, and name it
#
# The diff goes between the two comments at the README's end. The header, whose every line differs,
# is left out: the README says the same.
set -eu

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
check=''
case ${1-} in
    '') ;;
    -h | --help) usage; exit ;;
    --check) check=yes ;;
    *) usage >&2; exit 1 ;;
esac
cd -- "$(dirname -- "$0")/.."
tmp=$(mktemp -d)
trap 'rm -r "$tmp"' EXIT

result=0 previous=stage1-uts
for stage in stage2-user stage3-pid stage4-mount stage5-net; do
    for side in $previous $stage; do
        grep -v '^//!' "$side/src/main.rs" >"$tmp/$side"
    done
    {
        printf '```diff\n'
        diff -U1 --label "$previous/src/main.rs" --label "$stage/src/main.rs" "$tmp/$previous" "$tmp/$stage" || :
        printf '```\n'
    } | sed 's/^@@.*@@$/@@/; s/^ $//' >"$tmp/diff"
    awk -v diff="$tmp/diff" '
        /^<!-- to here -->$/ { skip = 0; ends++ }
        !skip { print }
        /^<!-- scripts\/diff-stages.sh writes from here -->$/ {
            while ((getline line < diff) > 0) print line
            skip = 1
            begins++
        }
        END { exit begins != 1 || ends != 1 || skip }' $stage/README.md >"$tmp/new" ||
        { echo "diff-stages.sh: $stage/README.md has not its two comments" >&2; exit 1; }
    if ! cmp -s "$tmp/new" $stage/README.md; then
        if [ -n "$check" ]; then
            echo "diff-stages.sh: $stage/README.md is out of date; run scripts/diff-stages.sh" >&2
            result=1
        else
            cat "$tmp/new" >$stage/README.md
        fi
    fi
    previous=$stage
done
exit $result
