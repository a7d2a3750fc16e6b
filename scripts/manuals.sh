#!/bin/sh
# Installs the manual pages of the stages, and what completes their options in bash, zsh and fish.
#
# Usage: manuals.sh [DIR]
#
#   DIR   where they go: DIR/man, DIR/bash-completion, DIR/zsh, DIR/fish (default: /usr/local/share for
#         root, otherwise ~/.local/share)
#
# man finds those in ~/.local/share if ~/.local/bin is in PATH, bash if the package bash-completion is
# installed, in new shells; fish looks there, zsh in the directories of $fpath only.
# They are made from the programs' own command lines. rm takes them away again; it lists what it wrote.
set -eu

command -v cargo >/dev/null || { echo 'manuals.sh: it takes cargo: run it as yourself, and cp what it wrote' >&2; exit 1; }
case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
    -*) echo "manuals.sh: unknown argument '$1'; see --help" >&2; exit 1 ;;
    '') if [ "$(id -u)" = 0 ]; then to=/usr/local/share; else to=${XDG_DATA_HOME:-$HOME/.local/share}; fi ;;
    *) to=$(mkdir -p -- "$1" && cd -- "$1" && pwd) ;;
esac
cd -- "$(dirname -- "$0")/.."
cargo run --quiet --package stage5-net --example manuals -- "$to"
find "$to/man/man1" "$to/bash-completion" "$to/zsh" "$to/fish" -name '*stage[1-5]-*'
