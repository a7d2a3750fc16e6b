# Prints the table of compare.sh: a row a fact, and what is the same.
#
# Variables: stage, mode (hand, pid, program, or a runtime), left and right (the heads of two columns), width.
# Files, in this order: reasons, slides, and the facts of host (outside), left, stage.

BEGIN {
    FS = "\t"
    column = int((width - 22 - 12 - 6) / 2)
    if (column < 20) column = 20
    is_own = mode == "pid" || mode == "program" # the reader's own work
    keys = mode == "hand" || is_own ? stage "|" mode : mode
}
FILENAME ~ /\/(reasons|slides)$/ {
    if (/^(#|$)/) next
    split($0, part, / +\| +/)
    if ((" " part[1] " ") !~ " (" (FILENAME ~ /slides$/ ? stage : keys) ") ") next
    if (FILENAME ~ /reasons$/) {
        reason_row[++reasons] = part[2]
        reason_left[reasons] = part[3]
        reason_stage[reasons] = part[4]
        reason[reasons] = part[5]
    } else if (is_own && (mode == "pid" || part[3] !~ /^host: /)) {
        if (!(part[2] in number)) line[number[part[2]] = ++lines] = part[2]
        line_of[++tests] = number[part[2]]
        test_row[tests] = part[3]
        test[tests] = part[4]
    }
    next
}
# A second mount on a target, a second address of a link: rows of their own.
{
    row = $1
    value = substr($0, length($1) + 2)
    if ((times = ++seen[FILENAME, row]) > 1) row = row " (" times ")"
}
FILENAME ~ /\/host$/ { host[row] = value; next }
FILENAME ~ /\/left$/ { theirs[row] = value }
FILENAME ~ /\/stage$/ { ours[row] = value }
!(row in known) { known[row]; order[++rows] = row }

function value_of(values, row) { return row in values ? values[row] : "(none)" }
# The words of a that b has not, in order, with commas between.
function only(a, b,    words, i, n, has, list) {
    n = split(b, words, /[ ,()]+/)
    for (i = 1; i <= n; i++) has[words[i]]
    n = split(a, words, /[ ,()]+/)
    for (i = 1; i <= n; i++)
        if (words[i] != "" && !(words[i] in has)) list = list "," words[i]
    return list == "" ? "-" : substr(list, 2)
}
function fits(words, pattern) { return words ~ "^(" pattern ")$" }
# Takes from rest[i] what goes into a column, if possible up to a blank or comma.
function piece(i, size,    text, at) {
    text = substr(rest[i], 1, size)
    if (length(rest[i]) > size)
        for (at = size; at > size / 3; at--)
            if (substr(text, at, 1) ~ /[ ,]/) { text = substr(text, 1, at); break }
    rest[i] = substr(rest[i], length(text) + 1)
    return text
}
function show(row, a, b, verdict) {
    rest[0] = row; rest[1] = a; rest[2] = b
    do {
        printf "%-22s  %-*s  %-*s  %s\n", piece(0, 22), column, piece(1, column),
            column, piece(2, column), verdict
        verdict = ""
    } while (rest[0] rest[1] rest[2] != "")
}
# Which lines of the slide are done; the first that is not comes next.
function show_lines(    i, value, state) {
    for (i = 1; i <= tests; i++) {
        value = value_of(theirs, test_row[i])
        if (test[i] == "-") continue
        if (test[i] ~ /^!/ ? fits(value, substr(test[i], 2)) : !fits(value, test[i])) is_open[line_of[i]]
    }
    print "\nthe lines of the slide"
    for (i = 1; i <= lines; i++) {
        state = "done"
        if (i in is_open) state = mode == "program" ? "missing" : next_line ? "not yet" : "next"
        if (i in is_open && !next_line) next_line = i
        printf "  %-8s  %s\n", state, line[i]
    }
}
# Why the values of a row differ: a line that is not done, or a reason.
function judge(row, a, b,    i) {
    why = ""
    if (a == b && a !~ /^FAILED/) return "same"
    for (i = 1; i <= tests; i++)
        if (fits(row, test_row[i]) && line_of[i] in is_open) return "not done yet: " line[line_of[i]]
    for (i = 1; i <= reasons; i++)
        if (fits(row, reason_row[i]) && fits(only(a, b), reason_left[i]) && fits(only(b, a), reason_stage[i]) &&
            ((a b) !~ /FAILED/ || reason_left[i] ~ /FAILED/)) {
            why = reason[i]
            return "explained"
        }
    return "different"
}
function count_and_show(row, a, b,    verdict) {
    verdict = judge(row, a, b)
    count[verdict ~ /^not/ ? "different" : verdict]++
    show(row, a, b, verdict)
    if (why != "") printf "%24s%s\n", "", "reason: " why
}
END {
    if (is_own) show_lines()
    printf "\n%-22s  %-*s  %-*s\n", "stage " stage, column, left, column, right
    for (i = 1; i <= rows; i++) {
        row = order[i]
        a = value_of(theirs, row)
        b = value_of(ours, row)
        # Up to stage 3, and before pivot_root, all mounts of the host are still there: they get one row.
        inherited = a; sub(/,shared/, "", inherited)
        outer = host[row]; sub(/,shared/, "", outer)
        is_hosts = row ~ /^mount / && inherited == outer
        if (stage < 4 && is_hosts && a == b)
            kept++
        else if (is_own && stage > 3 && row ~ /^mount / && b == "(none)" &&
            (is_hosts || theirs["new root"] != "is /" || row ~ /^mount \/\.old_root/))
            left_over++
        else
            count_and_show(row, a, b)
    }
    if (kept) count_and_show("mounts of the host", kept " unchanged", kept " unchanged")
    if (left_over) count_and_show("mounts of the host", left_over " still there", "(none)")
    if (is_own && next_line) print (mode == "pid" ? "next: " : "the first that is missing: ") line[next_line]
    printf "stage %d: %d same, %d explained, %d different\n", stage, count["same"], count["explained"], count["different"]
    exit count["different"] > 0 || next_line > 0
}
