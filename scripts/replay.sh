#!/bin/sh
# Watch a container being built: runs a stage with --explain=json, and writes one HTML file with which you go
# through its steps, forwards and back.
#
# Usage: replay.sh [--output FILE] [--against RUN | --still STEP] N [STAGE OPTION]... [-- COMMAND [ARG]...]
#
#   --output FILE  the page (default: target/replay/stageN-….html)
#   --against RUN  show another run beside it, and what differs. RUN is by-hand (the script of the slide), a page of
#                  this script, or a file with the stderr of a stage under --explain=json, such as one that failed
#   --still STEP   write only the picture of this step, as SVG; needs Chromium
#
# COMMAND is true if there is none. Needs python3, and the stages: cargo build, or STAGE_BIN_DIR. The file has all
# that it needs inside. By hand it needs root, for stages 4 and 5 also a root file system (scripts/rootfs.sh).
# The exit status is the stage's. Open the file in a browser; #step=12 at the end of its address opens step 12.
set -eu

case ${1-} in
    '' | -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit ;;
esac
exec python3 -B "$(dirname -- "$0")/replay/replay.py" "$@"
