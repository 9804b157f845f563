# SPDX-License-Identifier: BSD-2-Clause
# overload.gp - the plot of doc/load.md from the tables of overload_bench.py:
#
#	gnuplot -e "dir='OUT-DIRECTORY'" tests/bench/overload.gp
#
# writes overload.svg and overload.png there.

idle = 15; flood = 45; end = 60; processes = 40

set style fill solid 0.85 noborder
set grid ytics lc rgb "#dddddd" lt 1
set border 3 lc rgb "#666666"
set tics nomirror out scale 0.5
set xrange [0:end]
set key top left Left reverse samplen 1.2 spacing 0.95 opaque width -3

do for [kind in "svg png"] {
	if (kind eq "svg") {
		set terminal svg size 1000,780 dynamic font "sans-serif,12" background rgb "white"
	} else {
		set terminal png size 1000,780 font "sans,10"
	}
	set output dir."/overload.".kind
	set multiplot layout 3,2 columnsfirst margins 0.08,0.985,0.065,0.945 spacing 0.095,0.06
	do for [name in "without with"] {
		file(what) = sprintf("%s/overload-%s-%s.dat", dir, name, what)
		unset arrow
		do for [x in "15 45"] {
			set arrow from x, graph 0 to x, graph 1 nohead dt 2 lc rgb "#888888"
		}

		set title (name eq "with" ? "with load \\{ sessions = \"20 8\" \\}" : "without") \
		    offset 0,-0.4 font ",14"
		set ylabel "strangers a second" offset 0
		unset logscale y
		set yrange [0:100]
		plot file("strangers") using ($1+0.5):($2+$3+$4) with boxes lc rgb "#888888" \
		        title "no reply in 10 s", \
		     "" using ($1+0.5):($2+$3) with boxes lc rgb "#e0a030" title "421", \
		     "" using ($1+0.5):2 with boxes lc rgb "#4477aa" title "delivered"

		unset title
		set ylabel "open sessions" offset 0
		most = (name eq "with" ? 60 : 400)
		set yrange [0:most]
		plot file("level") using 1:($2*most) with filledcurves y1=0 lc rgb "#f6dcb0" \
		        title (name eq "with" ? "level 1" : ""), \
		     file("open") using 1:2 with lines lw 1.5 lc rgb "#333333" title "sessions", \
		     processes with lines dt 3 lc rgb "#aa3333" title "smtpd that may run"

		set ylabel "known: ms to delivery" offset 1.8
		set xlabel "seconds" offset 0,0.6
		set logscale y
		set yrange [1:200000]
		plot file("known") using 1:($3 == 1 ? $2*1000 : 1/0) with points pt 7 ps 0.35 \
		        lc rgb "#4477aa" title "delivered", \
		     "" using 1:($3 == 0 ? 12000 : 1/0) with points pt 2 ps 0.7 lc rgb "#cc3333" \
		        title "not delivered"
		unset xlabel
	}
	unset multiplot
	set output
}
