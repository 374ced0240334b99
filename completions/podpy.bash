# bash completion of podpy: install as /usr/share/bash-completion/completions/podpy

_podpy() {
    local IFS=$'\n' words=("${COMP_WORDS[@]}") cword=$COMP_CWORD cur=${COMP_WORDS[COMP_CWORD]}
    # Names of images hold colons, at which bash would split them.
    declare -F _get_comp_words_by_ref >/dev/null && _get_comp_words_by_ref -n : cur words cword
    COMPREPLY=($(COMP_WORDS="${words[*]}" COMP_CWORD=$cword _PODPY_COMPLETE=complete_bash "$1" 2>/dev/null))
    declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
}

complete -o default -F _podpy podpy
