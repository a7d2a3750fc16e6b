# Makes the table of kernels.sh from the consoles of its machines, one file a machine, older kernels first.
# Variable: bad, a file that gets the names of the consoles on which a check failed.

# 5.10.223 becomes 5010, so that versions can be compared.
function number(text,    part) { split(text, part, "."); return part[1] * 1000 + part[2] }
function note(m, text) { noted[m]; notes = notes "\n- Linux " version[m] ", " processor[m] ": " text }
BEGIN {
    FS = "\t"
    columns = split("stage 1,stage 2,stage 3,stage 4,stage 5,limits,compare.sh,isolation.sh", column, ",")
    for (i = 1; i <= 5; i++) used[column[i]]
}
FNR == 1 { m = FILENAME; order[++machines] = m; version[m] = processor[m] = "?" }
{ sub(/\r$/, ""); last[m] = $0 }
/^wanted\t/ { suite[m] = $2; sub("/.*", "", suite[m]) }
/^machine\t/ {
    version[m] = $2
    processor[m] = ($3 == "aarch64" ? "arm64" : "x86-64") ($4 == 4096 ? "" : ", " $4 / 1024 "k pages")
}
/^check\t/ {
    used[$3]
    checks[m, $2, $3]++
    if ($4 == "ok") { passed[m, $2, $3]++; next }
    # A stage that names the newer kernel which it needs does what it should.
    if (!match($6, /Linux [0-9]+\.[0-9]+ or newer/) || number(substr($6, RSTART + 6)) <= number(version[m])) failed[m]
    message = $6 ? $6 : $4
    sub(/^.*stage[1-5]-[a-z]*: /, "", message)
    sub(/ hint: /, ". Hint: ", message)
    sub(/ $/, "", message)
    sub("^bin/", "", $5)
    sub(/ -- ping.*/, "", $5)
    if (!((m, message) in commands)) { noted[m]; found[++founds] = m SUBSEP message }
    commands[m, message] = commands[m, message] (commands[m, message] ? ", " : "") "`" $5 "` (" $2 ")"
}
/^status / {
    ended[m]
    if ($0 != "status 0" && !(m in noted)) { failed[m]; note(m, "the checks ended early, with `" $0 "`") }
}
END {
    for (i = 1; i <= columns; i++) if (column[i] in used) { title = title " | " column[i]; rule = rule "|---" }
    print "| Linux (Debian) | processor" title " |\n|---|---" rule "|"
    for (j = 1; j <= machines; j++) {
        m = order[j]
        line = "| " version[m] " (" suite[m] ") | " processor[m]
        for (i = 1; i <= columns; i++) if (column[i] in used) {
            cell = ""
            from[i] = from[i] ? from[i] : version[m]
            for (k = split("user root", users, " "); k; k--) {
                all = checks[m, users[k], column[i]] + 0
                good = passed[m, users[k], column[i]] + 0
                if (all) cell = cell (cell ? ", " : "") users[k] (good == all ? "" : " " good " of " all)
                if (good < all) from[i] = ""
            }
            if (!cell) from[i] = ""
            line = line " | " (cell ? cell : "–")
        }
        print line " |"
        if (!(m in ended)) { failed[m]; note(m, "it did not end by itself; its last line: `" last[m] "`") }
        if (m in failed) print m >bad
    }
    line = "| works from | "
    for (i = 1; i <= columns; i++) if (column[i] in used) {
        sub(/\.[0-9]+$/, "", from[i])
        line = line " | " (from[i] ? from[i] : "–")
    }
    print line " |"
    for (i = 1; i <= founds; i++) {
        split(found[i], part, SUBSEP)
        note(part[1], commands[found[i]] ": " part[2])
    }
    if (notes) print notes
}
