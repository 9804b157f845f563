# SPDX-License-Identifier: BSD-2-Clause
# soak.gp - the plot of scripts/soak from its table:
#
#	gnuplot -e "dir='OUT-DIRECTORY'" tests/bench/soak.gp
#
# writes soak.svg and soak.png there.

set datafile separator comma
file = dir."/soak.csv"
stats file using 1 skip 1 nooutput
long = STATS_max > 300
x(t) = long ? t / 60.0 : t
set xrange [0:x(STATS_max)]
set grid ytics lc rgb "#dddddd" lt 1
set border 3 lc rgb "#666666"
set tics nomirror out scale 0.5
set key top right horizontal samplen 1.5
set offsets 0, 0, graph 0.3, 0

do for [kind in "svg png"] {
	if (kind eq "svg") {
		set terminal svg size 1000,1100 dynamic font "sans-serif,12" background rgb "white"
	} else {
		set terminal png size 1000,1100 font "sans,10"
	}
	set output dir."/soak.".kind
	set multiplot layout 5,1 margins 0.09,0.985,0.05,0.965 spacing 0.03,0.035

	set format x ""
	unset logscale y
	set ylabel "private memory, MB"
	set yrange [0:*]
	plot file using (x($1)):(column("calm_private_kb")/1024) skip 0 with lines lw 1.5 lc rgb "#4477aa" \
	        title "never restarted, all processes", \
	     "" using (x($1)):(column("shaken_private_kb")/1024) with lines lw 1 lc rgb "#e0a030" \
	        title "killed and reloaded, all processes", \
	     "" using (x($1)):(column("shaken_master_private_kb")/1024) with lines lw 1.5 lc rgb "#aa3333" \
	        title "its master"

	set ylabel "descriptors"
	plot file using (x($1)):(column("calm_fds")) with lines lw 1.5 lc rgb "#4477aa" title "never restarted", \
	     "" using (x($1)):(column("shaken_fds")) with lines lw 1 lc rgb "#e0a030" title "killed and reloaded", \
	     "" using (x($1)):(column("calm_threads")) with lines dt 3 lc rgb "#4477aa" title "threads", \
	     "" using (x($1)):(column("shaken_threads")) with lines dt 3 lc rgb "#e0a030" title "threads"

	set ylabel "reply, ms"
	set logscale y
	set yrange [0.01:20000]
	plot file using (x($1)):(column("smtp_p99_ms")) with points pt 7 ps 0.2 lc rgb "#bbbbbb" title "SMTP, slowest of 100", \
	     "" using (x($1)):(column("milter_p99_ms")) with points pt 7 ps 0.2 lc rgb "#e0a030" title "milter, slowest of 100", \
	     "" using (x($1)):(column("smtp_p50_ms")) smooth bezier lw 2 lc rgb "#333333" title "SMTP, median", \
	     "" using (x($1)):(column("milter_p50_ms")) smooth bezier lw 2 lc rgb "#aa3333" title "milter, median", \
	     "" using (x($1)):(column("noop_p50_ms")) smooth bezier lw 1 dt 2 lc rgb "#4477aa" title "NOOP, median"

	unset logscale y
	set yrange [0:*]
	set ylabel "a second"
	plot file using (x($1)):(column("accepted")) with points pt 7 ps 0.25 lc rgb "#4477aa" title "accepted", \
	     "" using (x($1)):(column("refused")) with points pt 7 ps 0.25 lc rgb "#e0a030" title "421"

	set format x "%g"
	set xlabel (long ? "minutes" : "seconds") offset 0,0.6
	set ylabel "Redis, MB; faults"
	plot file using (x($1)):(column("redis_bytes")/1e6) with lines lw 1.5 lc rgb "#4477aa" title "memory of Redis", \
	     "" using (x($1)):(strlen(strcol("fault")) > 0 ? 0.3 : 1/0) with points pt 5 ps 0.3 lc rgb "#cc3333" title "a fault", \
	     "" using (x($1)):(strlen(strcol("operator")) > 0 ? 0.6 : 1/0) with points pt 5 ps 0.3 lc rgb "#339955" title "weirctl or a reload"
	unset xlabel
	unset multiplot
	set output
}
