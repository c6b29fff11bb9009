#!/usr/bin/env bash
# table.sh RESULTS STUDY   prints results.tsv of run.sh as Markdown: ratios to the floors and peers, then all medians
set -euo pipefail
[ $# = 2 ] || { echo "error: usage: table.sh RESULTS STUDY" >&2; exit 1; }
cores=$(nproc)
awk -F '\t' -v cores="$cores" '
  function median(list, n,   parts, i, j, t) {
    n = split(list, parts, " ")
    for (i = 2; i <= n; i++) for (j = i; j > 1 && parts[j-1] + 0 > parts[j] + 0; j--) { t = parts[j]; parts[j] = parts[j-1]; parts[j-1] = t }
    return n == 0 ? "" : (parts[int((n + 1) / 2)] + parts[int(n / 2) + 1]) / 2
  }
  function shown(value, form) { return value == "" ? "-" : sprintf(form, value) }
  function ratio(a, b) { return a == "" || b == "" || b + 0 == 0 ? "" : a / b }
  function goal(what, value, limit, is_most) {
    if (value == "") return "| " what " | - | " (is_most ? "at most " : "at least ") limit " | - |"
    return sprintf("| %s | %.2f | %s %s | %s |", what, value, is_most ? "at most" : "at least", limit, (is_most ? value <= limit : value >= limit) ? "yes" : "**no**")
  }
  function is_floor(tool) { return tool ~ /^floor/ }
  function wall_of(tool, step) { return median(wall[tool, step]) }
  function best_peer(step,   best, t, w) {
    best = ""
    for (t in is_tool) if (t != "backy2" && !is_floor(t)) { w = wall_of(t, step); if (w != "" && (best == "" || w < best)) best = w }
    return best
  }
  FNR == 1 { file++; next }
  file == 1 {
    key = $1 SUBSEP $3; is_tool[$1] = 1
    if (!($3 in is_step)) { is_step[$3] = 1; step_name[++step_count] = $3 }
    if (!((key) in wall)) row[++row_count] = key
    # What failed has no time that means anything.
    if ($10 != 0) { bad[key] = $10; wall[key] = wall[key] ""; next }
    wall[key] = wall[key] " " $4; cpu[key] = cpu[key] " " ($5 + $6); rss[key] = rss[key] " " $7; added[key] = added[key] " " $9
    if ($7 > rss_most && $1 == "backy2") rss_most = $7
    if ($11 > noise) noise = $11
    next
  }
  { name = $1; sub(/\.img$/, "", name); study[name] = $5 }
  END {
    print "### Goals\n\n| what | measured | goal | reached |\n|---|--:|---|---|"
    print goal("new data: seconds / zstd -1 -T" cores, ratio(wall_of("backy2", "day0"), wall_of("floor", "day0")), 1.2, 1)
    print goal("new data: fastest peer / seconds", ratio(best_peer("day0"), wall_of("backy2", "day0")), 2, 0)
    print goal("unchanged: seconds / read and BLAKE3", ratio(wall_of("backy2", "again"), wall_of("floor", "again")), 2, 1)
    print goal("unchanged: fastest peer / seconds", ratio(best_peer("again"), wall_of("backy2", "again")), 3, 0)
    print goal("zeros: seconds / reading them", ratio(wall_of("backy2", "zeros"), wall_of("floor", "zeros")), 2, 1)
    print goal("restore: seconds / decompress what is stored, and write", ratio(wall_of("backy2", "restore"), wall_of("floor", "restore")), 1.2, 1)
    print goal("1 GiB changed, 200 TB / 10 GB", ratio(wall_of("backy2", "huge"), wall_of("backy2", "small")), 1.2, 1)
    print goal("the same, allocated in pieces of 1 to 16 blocks", ratio(wall_of("backy2", "huge-16-islands"), wall_of("backy2", "small-16-islands")), 1.2, 1)
    print goal("the same, allocated in single blocks", ratio(wall_of("backy2", "huge-1-islands"), wall_of("backy2", "small-1-islands")), 1.2, 1)
    print goal("65,536 lone blocks changed, 200 TB / 10 GB, allocated in pieces of 1 to 16", ratio(wall_of("backy2", "huge-16-lone"), wall_of("backy2", "small-16-lone")), 1.2, 1)
    print goal("the same, allocated in single blocks", ratio(wall_of("backy2", "huge-1-lone"), wall_of("backy2", "small-1-lone")), 1.2, 1)
    print goal("memory: largest resident MiB", rss_most == "" ? "" : rss_most / 1024, 300, 1)
    total = ""; least = 0; complete = 1
    n = split("day0 day1 day2 vm2", images, " ")
    for (i = 1; i <= n; i++) { a = median(added["backy2", images[i]]); if (a == "") complete = 0; total += a; least += study[images[i]] }
    print goal("stored bytes / 16 KiB blocks, zstd -1", complete ? ratio(total, least) : "", 1.015, 1)

    print "\n### Bytes\n\n| image | stored MiB | 16 KiB blocks, zstd -1, MiB | more |\n|---|--:|--:|--:|"
    for (i = 1; i <= n; i++) {
      a = median(added["backy2", images[i]]); least = study[images[i]]
      printf "| %s | %s | %.1f | %s |\n", images[i], shown(a == "" ? "" : a / 1048576, "%.1f"), least / 1048576, shown(a == "" || !least ? "" : (a / least - 1) * 100, "%.2f %%")
    }
    print "\n### Medians\n\n| step | program | seconds | / floor | CPU seconds | RSS MiB | MiB added | failed |\n|---|---|--:|--:|--:|--:|--:|---|"
    for (s = 1; s <= step_count; s++) for (r = 1; r <= row_count; r++) {
      split(row[r], part, SUBSEP)
      if (part[2] != step_name[s]) continue
      k = row[r]; w = median(wall[k])
      printf "| %s | %s | %s | %s | %.2f | %.0f | %s | %s |\n", part[2], part[1], shown(w, "%.2f"), shown(part[1] == "floor" ? "" : ratio(w, wall_of("floor", part[2])), "%.2f"), median(cpu[k]),
        median(rss[k]) / 1024, is_floor(part[1]) ? "-" : sprintf("%.1f", median(added[k]) / 1048576), k in bad ? "exit code " bad[k] : ""
    }
    printf "\n%d cores. Others used at most %d %% of the machine during a step.\n", cores, noise
  }' "$1" "$2"
