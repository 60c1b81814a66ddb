#compdef smr
# Completion of smr for zsh. The program decides; this hands it the words and takes its answer.
_smr() {
    local line files=
    local -a values descriptions
    while IFS= read -r line; do
        if [[ $line == $'\tfiles' ]]; then
            files=yes
        else
            values+=("${line%%$'\t'*}")
            descriptions+=("${line%%$'\t'*}  ${line#*$'\t'}")
        fi
    done < <(SMR_COMPLETE=zsh ${(Q)words[1]} "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    [[ -z $files ]] || _files
    (( ! $#values )) || compadd -l -d descriptions -- "${values[@]}"
}
if [[ $funcstack[1] == _smr ]]; then
    _smr "$@"
else
    compdef _smr smr
fi
