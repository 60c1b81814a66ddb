# Completion of smr for bash. The program decides; this hands it the line and takes its answer.
_smr() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $line == $'\tfiles' ]]; then
            compopt -o default -o filenames
        else
            COMPREPLY+=("$line")
        fi
    done < <(SMR_COMPLETE=bash COMP_LINE=$COMP_LINE COMP_POINT=$COMP_POINT COMP_WORD=${COMP_WORDS[COMP_CWORD]} "$1" 2>/dev/null)
}
complete -F _smr smr
