"""`python -m fmnist.completion`: completion of knobs, their values, commands and options for a shell."""

import argparse
import shlex
import sys

from fmnist import ROOT
from fmnist.launch.completion import candidates
from fmnist.program.output import run_command

# Each asks this command for what can stand in place of the word before the cursor. Where there is nothing, the shell
# completes file names.
SHELLS = {
    "bash": """_fmnist() {
    local line=${COMP_LINE:0:COMP_POINT} IFS=$'\\n'
    COMPREPLY=($(ASK "$line" 2>/dev/null))
    local word=${line##*[[:space:]]}
    if [[ $COMP_WORDBREAKS == *=* && $word == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
    fi
    if [[ ${COMPREPLY[0]-} == *= ]]; then compopt -o nospace; fi
}
complete -o default -F _fmnist python python3
""",
    "zsh": """_fmnist() {
    local -a found
    found=(${(f)"$(ASK "${BUFFER[1,CURSOR]}" 2>/dev/null)"})
    if (( ! $#found )); then _files; return; fi
    compadd -Q -S '' -- ${(M)found:#*=}
    compadd -Q -- ${found:#*=}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _fmnist python python3
""",
    "fish": """function _fmnist
    ASK (commandline --cut-at-cursor | string collect) 2>/dev/null
end
complete --command python --arguments '(_fmnist)'
complete --command python3 --arguments '(_fmnist)'
""",
}
HOW = """how to switch it on:
  eval "$(.venv/bin/python -m fmnist.completion bash)"        in ~/.bashrc, with the full path; the same with zsh
  .venv/bin/python -m fmnist.completion fish | source         in ~/.config/fish/config.fish
then
  python train.py opt<TAB>                optim=
  python train.py -m optim=adam,m<TAB>    optim=adam,muon
  python -m fmnist.ev<TAB>                fmnist.evaluate
"""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fmnist.completion",
        description="Print what a shell needs to complete knobs, their values, commands and options with TAB.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("shell", nargs="?", choices=("bash", "zsh", "fish"), help="the shell that is to complete")
    what.add_argument("--line", metavar="TEXT", help="print what can complete this line, as the shell asks for it")
    arguments = parser.parse_args()
    if arguments.line is not None:
        print(end="".join(f"{word}\n" for word in candidates(arguments.line)))
        return
    start = ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "fmnist.completion", "--line"]
    print(SHELLS[arguments.shell].replace("ASK", shlex.join(start)), end="")


if __name__ == "__main__":
    run_command(main)
