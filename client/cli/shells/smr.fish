# Completion of smr for fish. The program decides; this hands it the words and takes its answer.
function __smr_complete
    set -l words (commandline --tokenize --cut-at-cursor --current-process)
    set -l current (commandline --current-token --cut-at-cursor)
    # An open quote is no part of what is looked for; fish puts it back.
    set current (string unescape -- $current; or string trim --left --chars "\"'" -- $current)
    for line in (env SMR_COMPLETE=fish $words[1] $words[2..] "$current" 2>/dev/null)
        if test "$line" = \tfiles
            __fish_complete_path "$current"
        else
            echo -- $line
        end
    end
end
complete --command smr --no-files --arguments '(__smr_complete)'
