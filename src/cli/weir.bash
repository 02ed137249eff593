# SPDX-License-Identifier: Apache-2.0
# bash completion for weir.  Commands and options come from the program's own
# help and policies from the segment, so there is no list here to go stale.

# The first COUNT words of the command so far, options left out, in _weir_words;
# the arguments that name the segment in _weir_segment.
_weir_scan()
{
	local i word

	_weir_words=()
	_weir_segment=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		case $word in
		--segment)
			_weir_segment=(--segment "${COMP_WORDS[i + 1]}")
			((i++))
			;;
		--cost | --now | --policy | --fail-mode | --consistency | --slots | --key-bytes | \
		--policies | --holds | --purses | --mode | --group | --secret-file | --clock | --by | --count | \
		--limit | --key | --workers | --speed | --plot | --redis | --prefix | \
		--interval-ms | --max-staleness-ms | --expected-hosts | --overshoot | --hosts | \
		--deal | --demand | --seconds | --grpc | --grpc-tls | --http | --http-tls | \
		--headers | --top-keys | --tls-certificate | --tls-key | --tls-client-ca | \
		--tls-client-name | --threads | --max-connections | --max-streams | --max-message | \
		--socket-mode | --compat | --rules | --request-timeout | --keepalive | \
		--idle-timeout | --max-connection-age | --max-connection-grace | --drain-timeout)
			# bash makes "--option=value" three words.
			[[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
			((i++))
			;;
		-*) ;;
		*)
			_weir_words+=("$word")
			;;
		esac
	done
}

# Complete the current word to one of the words in $1.
_weir_reply()
{
	mapfile -t COMPREPLY < <(compgen -W "$1" -- "${COMP_WORDS[COMP_CWORD]}")
}

_weir_files()
{
	compopt -o filenames
	mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
}

# The words that can follow $1 ("" or a family, as "policy") in a command's name.
_weir_commands()
{
	weir help 2>/dev/null | awk -v family="$1" '
		/^  [a-z]/ {
			name = substr($0, 3, 15)
			split(name, words, " ")
			if (family == "" && !seen[words[1]]++)
				print words[1]
			else if (words[1] == family)
				print words[2]
		}'
}

_weir_options()
{
	weir help "$@" 2>/dev/null | awk '/^  --/ { print $1 }'
}

_weir_policies()
{
	weir "${_weir_segment[@]}" policy list 2>/dev/null | awk '{ print $1 }'
}

_weir()
{
	local current=${COMP_WORDS[COMP_CWORD]}
	local previous=${COMP_WORDS[COMP_CWORD - 1]}
	local -a _weir_words _weir_segment command
	local operands

	COMPREPLY=()
	_weir_scan
	case ${_weir_words[0]} in
	policy | sync) command=("${_weir_words[@]:0:2}") ;;
	*) command=("${_weir_words[@]:0:1}") ;;
	esac
	operands=$((${#_weir_words[@]} - ${#command[@]}))

	case $previous in
	--fail-mode) _weir_reply "open share closed"; return ;;
	--consistency) _weir_reply "bounded local eventual strict"; return ;;
	--clock) _weir_reply "boottime tsc caller"; return ;;
	--headers) _weir_reply "ietf draft-03 legacy none"; return ;;
	--compat) _weir_reply "envoy envoy-2026-01 strict"; return ;;
	--by) _weir_reply "consumed denied"; return ;;
	--speed) _weir_reply "log max"; return ;;
	--deal) _weir_reply "round-robin random key"; return ;;
	--redis) _weir_reply "redis:// rediss:// unix:///"; compopt -o nospace; return ;;
	--key) _weir_reply "addr user method path user-agent"; return ;;
	--policy) _weir_reply "$(_weir_policies)"; return ;;
	--group) mapfile -t COMPREPLY < <(compgen -g -- "$current"); return ;;
	--grpc | --grpc-tls | --http | --http-tls)
		_weir_reply "127.0.0.1: unix:/"
		compopt -o nospace
		return
		;;
	--segment | --secret-file | --policies | --plot | --tls-certificate | --tls-key | \
	--tls-client-ca | --rules)
		_weir_files
		return
		;;
	esac

	if [[ ${#command[@]} -eq 0 ]]; then
		case $current in
		-*) _weir_reply "--segment --json --help --version" ;;
		*) _weir_reply "$(_weir_commands "")" ;;
		esac
		return
	fi
	if [[ $current == -* ]]; then
		_weir_reply "$(_weir_options "${command[@]}")"
		return
	fi

	case ${command[*]}/$operands in
	policy/0 | sync/0) _weir_reply "$(_weir_commands "${command[0]}")" ;;
	help/*) _weir_reply "$(_weir_commands "${_weir_words[1]}")" ;;
	fail-mode/1) _weir_reply "open share closed default" ;;
	"policy set"/0 | "policy remove"/0 | fail-mode/0 | allow/0 | status/0 | refund/0 | \
	force-take/0 | reset/0 | acquire/0 | stats/0)
		_weir_reply "$(_weir_policies)"
		;;
	"sync publish"/* | "sync withdraw"/*) _weir_reply "$(_weir_policies)" ;;
	"policy load"/0 | replay/0) _weir_files ;;
	acquire/2 | acquire/3)
		mapfile -t COMPREPLY < <(compgen -c -- "$current")
		;;
	esac
}

complete -F _weir weir
