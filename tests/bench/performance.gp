# SPDX-License-Identifier: BSD-2-Clause
# performance.gp - the plot of doc/performance.md; scripts/bench writes its tables and runs it:
#
#	gnuplot -e "dir='DIRECTORY'; out='FILE.svg'" tests/bench/performance.gp

set terminal svg size 1000,460 dynamic font "sans-serif,12" background rgb "white"
set output out
set border 3 lc rgb "#666666"
set tics nomirror out scale 0.5
set grid ytics lc rgb "#dddddd" lt 1
set style data linespoints
set pointsize 0.6
set logscale x
file(name, what) = sprintf("%s/%s-%s.dat", dir, name, what)
there(f) = int(system(sprintf("test -s '%s' && echo 1 || echo 0", f)))

names = "null weir weir-event zone zone-event rspamd"
titles = "'null milter' 'weir, Redis, libmilter' 'weir, Redis, event' 'weir, zone, libmilter' 'weir, zone, event' 'rspamd'"
colours = "#888888 #4477aa #cc6677 #88aacc #ddaa99 #999933"

set multiplot layout 1,2 margins 0.08,0.985,0.27,0.9 spacing 0.09,0.1
set xrange [1:5000]
set yrange [0:*]
set format y "%.0s%c"
set title "ordinary sessions, no pauses"
set xlabel "open sessions"
set ylabel "sessions a second"
set key at screen 0.5,0.11 center maxrows 2 Left reverse samplen 1.5 width 3
plot for [i=1:words(names)] (there(file(word(names,i),"rate")) ? file(word(names,i),"rate") : "/dev/null") \
	using 1:2 lw 2 pt 7 lc rgb word(colours,i) title word(titles,i)

# not measured by scripts/bench quick
if (there(file("weir", "cost"))) {
	set title "with pauses of 500 ms between the commands"
	set ylabel "us of processor time a session, milter and Redis"
	set format y "%.0f"
	plot for [i=1:words(names)] (there(file(word(names,i),"cost")) ? file(word(names,i),"cost") : "/dev/null") \
		using 1:2 lw 2 pt 7 lc rgb word(colours,i) notitle
}
unset multiplot
