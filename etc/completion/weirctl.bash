# SPDX-License-Identifier: BSD-2-Clause
# bash completion for weirctl(8): as /usr/share/bash-completion/completions/weirctl, or sourced.
# Names of limits and clients are asked of Redis, with the options that are on the line.

_weirctl_commands='limit override exempt block trap unlist lists import why top status clear drain
    greylist replay suggest doctor attach'

# "name" of a list of objects in weirctl's JSON; nothing when it cannot be had.
_weirctl_ask()
{
	local field=$1
	shift
	weirctl "${options[@]}" -j "$@" 2>/dev/null |
	    sed -n "s/^ *\"$field\": \"\([^\"]*\)\",\{0,1\}\$/\1/p" || :
}

_weirctl_reply()
{
	local IFS=$' \t\n'
	COMPREPLY=($(compgen -W "$1" -- "$2")) || :
}

# Words that go on without a blank.
_weirctl_who()
{
	_weirctl_reply "$1" "$2"
	case ${COMPREPLY[0]-} in
	*: | *=) compopt -o nospace 2>/dev/null || : ;;
	esac
}

# What may stand behind KEY=.
_weirctl_values()
{
	case $1 in
	count) echo connections sessions messages recipients rejected-recipients bytes ;;
	per) echo address network pool all user sender sender-domain recipient recipient-domain helo ;;
	action) echo refuse defer log ;;
	for) echo everyone strangers known authenticated ;;
	ladder) echo off ;;
	enabled | strict) echo true false ;;
	esac
}

# KEY=VALUE...; bash may have split the word at "=".
_weirctl_words()
{
	local current=$1 previous=$2 before=$3 keys
	keys='count= per= for= ladder= rate= burst= quota= max= strict= action= reply= enabled='
	if [[ $current == '=' ]]; then
		_weirctl_reply "$(_weirctl_values "$previous")" ''
	elif [[ $previous == '=' ]]; then
		_weirctl_reply "$(_weirctl_values "$before")" "$current"
	elif [[ $current == *=* ]]; then
		keys=$(_weirctl_values "${current%%=*}")
		_weirctl_reply "${keys:+${current%%=*}=${keys// / ${current%%=*}=}}" "$current"
	elif [[ $previous == for ]]; then
		_weirctl_reply '30m 2h 1d 1w' "$current"
	else
		_weirctl_reply "$keys ${4-for}" "$current"
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null || :
	fi
}

# Words of the file's section greylist.
_weirctl_greylist()
{
	local current=$1 previous=$2 before=$3
	[[ $current != '=' ]] || before=$previous previous='=' current=''
	if [[ $previous != '=' ]]; then
		_weirctl_reply 'enabled= delay= window= keep= reply= when-down= -l' "$current"
		[[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace 2>/dev/null || :
	elif [[ $before == enabled ]]; then
		_weirctl_reply 'true false' "$current"
	fi
}

# LOG... [-l NAME KEY=VALUE...] [-g KEY=VALUE...]
_weirctl_replay()
{
	local current=$1 previous=$2 before=$3 word last=''
	for word in "${words[@]}"; do
		[[ $word != -[lg] ]] || last=$word
	done
	case $last:$previous in
	*:-l) _weirctl_reply "$(_weirctl_ask name limit)" "$current" ;;
	-l:*) _weirctl_words "$current" "$previous" "$before" '-l -g' ;;
	-g:*) _weirctl_greylist "$current" "$previous" "$before" ;;
	*:*)
		if [[ $current == -* ]]; then
			_weirctl_reply '-l -g' "$current"
		else
			COMPREPLY=($(compgen -f -- "$current" || :))
		fi
		;;
	esac
}

_weirctl()
{
	local current=${COMP_WORDS[COMP_CWORD]} previous='' before='' i
	local -a options=() words=()

	COMPREPLY=()
	((COMP_CWORD < 1)) || previous=${COMP_WORDS[COMP_CWORD - 1]}
	((COMP_CWORD < 2)) || before=${COMP_WORDS[COMP_CWORD - 2]}
	# the options, and then the command's words up to the one that is typed
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-c | -r)
			options+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]-}")
			i=$((i + 1))
			;;
		-m) i=$((i + 1)) ;;
		-*) ;;
		*)
			words=("${COMP_WORDS[@]:i:COMP_CWORD - i}")
			break
			;;
		esac
	done
	if ((${#words[@]} == 0)); then
		case $previous in
		-c) COMPREPLY=($(compgen -f -- "$current")) ;;
		-m) ;;
		-r) _weirctl_reply 'redis:// unix:' "$current" ;;
		*)
			if [[ $current == -* ]]; then
				_weirctl_reply '-c -r -j -m -y -h -V --json --yes --help --version' \
				    "$current"
			else
				_weirctl_reply "$_weirctl_commands help" "$current"
			fi
			;;
		esac
		return 0
	fi
	case ${words[0]}:${#words[@]} in
	limit:1) _weirctl_reply 'list set unset shadow history rollback' "$current" ;;
	limit:2)
		case ${words[1]} in
		set | unset | shadow) _weirctl_reply "$(_weirctl_ask name limit)" "$current" ;;
		esac
		;;
	limit:3)
		case ${words[1]} in
		set | shadow)
			_weirctl_words "$current" "$previous" "$before"
			[[ ${words[1]} == set || off != "$current"* ]] || COMPREPLY+=(off)
			;;
		esac
		;;
	limit:*)
		case ${words[1]} in
		set | shadow) _weirctl_words "$current" "$previous" "$before" ;;
		esac
		;;
	override:1) _weirctl_reply set "$current" ;;
	override:2) ;;
	override:3) _weirctl_reply "$(_weirctl_ask name limit)" "$current" ;;
	override:*) _weirctl_words "$current" "$previous" "$before" ;;
	exempt:1) _weirctl_who 'user: name:' "$current" ;;
	block:1) _weirctl_who 'user:' "$current" ;;
	exempt:2 | block:2 | trap:2) _weirctl_reply for "$current" ;;
	exempt:3 | block:3 | trap:3) _weirctl_reply '30m 2h 1d 1w' "$current" ;;
	drain:1) _weirctl_reply "all $(_weirctl_ask node status)" "$current" ;;
	drain:2) _weirctl_reply 'on off' "$current" ;;
	drain:3) _weirctl_reply 'for -w' "$current" ;;
	drain:4) [[ $previous != for ]] || _weirctl_reply '30m 2h 1d' "$current" ;;
	drain:5) _weirctl_reply -w "$current" ;;
	unlist:1) _weirctl_reply "$(_weirctl_ask who lists)" "$current" ;;
	import:1) _weirctl_reply 'postgrey-clients postgrey-recipients milter-greylist' "$current" ;;
	import:2) COMPREPLY=($(compgen -f -- "$current")) ;;
	import:*) _weirctl_reply '-n for' "$current" ;;
	why:*)
		((${#words[@]} % 2 == 1)) ||
		    _weirctl_reply 'name sender recipient user helo' "$current"
		;;
	greylist:1) _weirctl_reply 'list pass forget on off' "$current" ;;
	greylist:2) [[ ${words[1]} != off ]] || _weirctl_who 'user: name: sender: recipient:' "$current" ;;
	greylist:3)
		case ${words[1]} in
		on) _weirctl_who 'delay= for' "$current" ;;
		off) _weirctl_reply for "$current" ;;
		esac
		;;
	replay:*) _weirctl_replay "$current" "$previous" "$before" ;;
	help:1) _weirctl_reply "$_weirctl_commands" "$current" ;;
	doctor:* | attach:*)
		if [[ $previous == -C ]]; then
			COMPREPLY=($(compgen -d -- "$current" || :))
		elif [[ ${words[0]} == attach ]]; then
			_weirctl_reply "$( ((${#words[@]} > 1)) && echo --apply --undo -C || echo postfix sendmail)" \
			    "$current"
		else
			_weirctl_reply 'postfix sendmail -C --send --from --to' "$current"
		fi
		;;
	suggest:*) COMPREPLY=($(compgen -f -- "$current" || :)) ;;
	top:*)
		case $previous in
		by)
			_weirctl_reply 'refused connections messages recipients
			    rejected-recipients bytes' "$current"
			;;
		-n) ;;
		*) _weirctl_reply 'by -n' "$current" ;;
		esac
		;;
	esac
	return 0
}
complete -F _weirctl weirctl
